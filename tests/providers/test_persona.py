"""Persona: signatures, events, retrieve calls, and what its errors mean."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.persona_builders import (
    NOW,
    OTHER,
    PERSONA,
    SECRET,
    SELFIE,
    SHAPED,
    digest,
    event,
    parse,
    resource,
    signature,
    source,
)
from tests.providers.samples import samples
from worker.domain.model import ResourceRef
from worker.domain.states import FailureKind
from worker.errors import AuthenticationFailed, UnreadableJson, UnreadableNotification
from worker.providers.base import ErrorResponse, InboundRequest


def authenticate(header, body=b"{}", *, now=NOW, **changes):
    headers = {} if header is None else {"persona-signature": header}
    PERSONA.authenticate(source(**changes), InboundRequest(body, headers), now)


class TestAuthenticate:
    def test_the_configured_secret_signs(self):
        authenticate(signature(SECRET, b"{}"))

    def test_raw_bytes_are_signed_not_their_meaning(self):
        body = b'{"score": 100.0,\n "name": "\xff"}'

        authenticate(signature(SECRET, body), body)
        with pytest.raises(AuthenticationFailed):
            authenticate(signature(SECRET, body), body.replace(b"100.0", b"100"))

    @pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
    def test_any_of_several_secrets_signs(self, secrets):
        authenticate(signature(SECRET, b"{}"), webhook_secrets=secrets)

    @pytest.mark.parametrize("order", [(SECRET, OTHER), (OTHER, SECRET)])
    def test_a_rotation_sends_two_sets(self, order):
        authenticate(" ".join(signature(secret, b"{}") for secret in order))

    def test_each_set_is_checked_with_its_own_time(self):
        mixed = f"t={NOW},v1={digest(SECRET, b'{}', NOW - 1)} t={NOW - 1},v1={digest(SECRET, b'{}', NOW)}"

        with pytest.raises(AuthenticationFailed):
            authenticate(mixed)
        authenticate(f"{signature(OTHER, b'{}', NOW)} {signature(SECRET, b'{}', NOW - 1)}")

    def test_a_fresh_set_excuses_a_stale_one(self):
        authenticate(f"{signature(SECRET, b'{}', NOW - 9999)} {signature(SECRET, b'{}')}")

    def test_unknown_pairs_and_further_digests_of_a_set_do_no_harm(self):
        authenticate(f"t={NOW},v0=zz,v1={'0' * 64},v1={digest(SECRET, b'{}')}")

    @pytest.mark.parametrize("age", [-300, -1, 0, 300])
    def test_the_tolerance_counts_in_both_directions(self, age):
        authenticate(signature(SECRET, b"{}", NOW - age))

    @pytest.mark.parametrize(
        ("age", "said"),
        [(301, "301 seconds ago"), (-301, "301 seconds in the future")],
        ids=["expired", "future"],
    )
    def test_outside_the_tolerance_is_refused(self, age, said):
        with pytest.raises(AuthenticationFailed, match=said):
            authenticate(signature(SECRET, b"{}", NOW - age))

    @pytest.mark.parametrize("age", [86_400, -86_400])
    def test_a_tolerance_of_zero_switches_the_age_check_off(self, age):
        authenticate(signature(SECRET, b"{}", NOW - age), tolerance_seconds=0)

    def test_a_wrong_signature_is_told_from_a_late_one(self):
        with pytest.raises(AuthenticationFailed, match="matches a configured secret"):
            authenticate(signature(OTHER, b"{}", NOW - 9999))

    def test_without_a_secret_everything_is_refused(self):
        with pytest.raises(AuthenticationFailed, match="webhook_secrets"):
            authenticate(signature("", b"{}"), webhook_secrets=())

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            " ",
            "garbage",
            "=,=,=",
            "t=,v1=",
            f"v1={digest(SECRET, b'{}')}",
            f"t={NOW}",
            f"t={NOW},v1=",
            f"t={NOW},v1={digest(SECRET, b'{}')[:-1]}",
            f"t={NOW},v1={digest(SECRET, b'{}')}0",
            f"t={NOW},v1={digest(SECRET, b'{}')[:-2]}zz",
            f"t={NOW},v1={digest(SECRET, b'{}').upper()}",
            f"t={NOW},v0={digest(SECRET, b'{}')}",
            f"t={NOW},t={NOW},v1={digest(SECRET, b'{}')}",
            f"t=-{NOW},v1={digest(SECRET, b'{}')}",
            f"t={NOW}.0,v1={digest(SECRET, b'{}')}",
            f"t={'9' * 13},v1={digest(SECRET, b'{}')}",
            f"t={'٣' * 10},v1={digest(SECRET, b'{}')}",
            f"t={NOW},v1={'é' * 64}",
            "\udcff\udcfe",
            f"t={NOW},v1={'0' * 64}",
            "x" * 10_000,
            f"{signature(SECRET, b'{}')} " * 100,
        ],
    )
    def test_anything_else_is_refused_and_not_quoted(self, header):
        with pytest.raises(AuthenticationFailed) as caught:
            authenticate(header)

        assert SECRET not in str(caught.value)
        assert digest(SECRET, b"{}")[:8] not in str(caught.value)
        assert "garbage" not in str(caught.value)

    @given(st.text())
    def test_no_header_raises_anything_else(self, header):
        with pytest.raises(AuthenticationFailed):
            authenticate(header)

    @given(st.text(), st.binary())
    def test_signed_parts_in_odd_company_never_crash(self, noise, body):
        with contextlib.suppress(AuthenticationFailed):
            authenticate(f"{noise}{signature(SECRET, body)}{noise}", body)


class TestParse:
    def test_an_event_names_its_resource(self):
        notification = parse(event("verification.passed", resource("verification/selfie", "ver_1")))

        assert notification.delivery_key == notification.event_id == "evt_1"
        assert notification.event_type == "verification.passed"
        assert notification.resources == (ResourceRef("verification/selfie", "ver_1"),)
        assert notification.occurred_at
        assert notification.occurred_at.isoformat() == "2026-03-04T05:06:07.890000+00:00"
        assert (notification.ignored_because, notification.repeat_looks_again) == (None, False)

    @pytest.mark.parametrize(
        "kind",
        [
            "verification/government-id",
            "verification/some-type-of-next-year",
            "inquiry",
            "account",
            "case",
            "transaction",
            "document/generic",
            "report/watchlist",
            "report/integration/sentilink-scores",
        ],
    )
    def test_kept_types_are_retrieved_whatever_the_event_is_called(self, kind):
        assert parse(event("anything.brand-new", resource(kind, "x_1"))).resources == (ResourceRef(kind, "x_1"),)

    def test_an_underscore_in_a_type_becomes_a_dash(self):
        [ref] = parse(event("report/crypto_address.ready", resource("report/crypto_address", "rep_1"))).resources

        assert ref.kind == "report/crypto-address"

    @pytest.mark.parametrize("kind", ["selfie/profile-and-center", "selfie/center-only", "inquiry-session"])
    def test_what_cannot_be_retrieved_leads_to_its_inquiry(self, kind):
        subject = resource(kind, "x_1", relationships={"inquiry": {"type": "inquiry", "id": "inq_1"}})

        assert parse(event("selfie.created", subject)).resources == (ResourceRef("inquiry", "inq_1"),)

    @pytest.mark.parametrize(
        "relationships", [{}, {"inquiry": None}, {"inquiry": {}}, {"inquiry": {"type": "inquiry", "id": "../x"}}]
    )
    def test_without_an_inquiry_it_is_ignored(self, relationships):
        subject = {**resource("selfie/center-only", "self_1"), "relationships": relationships}
        notification = parse(event("selfie.created", subject))

        assert notification.resources == ()
        assert "selfie/center-only" in str(notification.ignored_because)

    @pytest.mark.parametrize(
        "kind",
        ["workflow-run", "graph-query", "importer-pipeline-run", "transaction-type", "verification", "inquiry/x"],
    )
    def test_other_types_are_ignored_with_a_reason(self, kind):
        notification = parse(event("workflow-run.created", resource(kind, "x_1")))

        assert notification.resources == ()
        assert kind in str(notification.ignored_because)

    def test_a_strange_type_is_not_quoted(self):
        notification = parse(event("x", resource("jane@example.com", "x_1")))

        assert notification.ignored_because == "resources of type unknown are not kept"

    @pytest.mark.parametrize("name", ["created-at", "createdAt", "created_at"])
    def test_the_time_is_read_in_every_inflection(self, name):
        body = event("a.b", resource("case", "case_1"), **{"created-at": None, name: "2026-01-01T00:00:00Z"})

        assert parse(body).occurred_at is not None

    def test_a_redacted_transaction_leads_to_its_results(self):
        related = [{"type": "account", "id": "act_1"}, {"type": "verification/selfie", "id": "ver_1"}]
        subject = resource("transaction", "txn_1", relationships={"related-objects": related})
        transaction = ResourceRef("transaction", "txn_1")

        assert parse(event("transaction.created", subject)).resources == (transaction,)
        assert parse(event("transaction.redacted", subject)).resources == (
            transaction,
            ResourceRef("verification/selfie", "ver_1"),
        )

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b'{"data": null}',
            b'{"data": []}',
            event("a.b", resource("inquiry", "inq_1"), event_id=None),
            event("a.b", resource("inquiry", "inq_1"), event_id="ver_1"),
            event("a.b", resource("inquiry", "inq_1"), event_id="evt_" + "x" * 200),
            event("a.b", None),
            event("a.b", []),
            event("a.b", {"id": "inq_1"}),
            event("a.b", {"type": "inquiry"}),
            event("a.b", resource("inquiry", "../accounts")),
            event("a.b", resource("verification/../x", "ver_1")),
        ],
    )
    def test_a_body_without_the_essentials_is_unreadable(self, body):
        with pytest.raises(UnreadableNotification):
            parse(body)

    @given(st.binary())
    def test_no_bytes_raise_anything_else(self, body):
        with pytest.raises((UnreadableJson, UnreadableNotification)):
            parse(body)

    @given(SHAPED, st.sampled_from(["selfie/x", "transaction", "verification/selfie"]), SHAPED)
    def test_no_shape_raises_anything_else(self, subject, kind, relationships):
        for payload in (subject, {"type": kind, "id": "x_1", "relationships": relationships}):
            with contextlib.suppress(UnreadableNotification):
                parse(event("transaction.redacted", payload))


class TestRequest:
    @pytest.mark.parametrize(
        ("kind", "path"),
        [
            ("verification/selfie", "verification/selfies"),
            ("verification/government-id", "verification/government-ids"),
            ("verification/government-id-nfc", "verification/government-id-nfcs"),
            ("verification/document", "verification/documents"),
            ("verification/database", "verification/databases"),
            ("verification/email-address", "verification/email-addresses"),
            ("verification/aamva", "verification/aamvas"),
            ("verification/mdoc", "verifications"),
            ("verification/some-type-of-next-year", "verifications"),
            ("inquiry", "inquiries"),
            ("account", "accounts"),
            ("case", "cases"),
            ("transaction", "transactions"),
            ("report/integration/sentilink-scores", "reports"),
            ("document/generic", "document/generics"),
            ("document/government-id", "document/government-ids"),
            ("document/other", "documents"),
        ],
    )
    def test_each_kind_has_its_path(self, kind, path):
        request = PERSONA.request(source(), ResourceRef(kind, "id_1"), nonce="", unix_ms=0)

        assert request.url == f"https://api.withpersona.com/api/v1/{path}/id_1"

    def test_every_kind_that_can_be_asked_for_has_a_path(self):
        for kind in PERSONA.kinds:
            assert PERSONA.request(source(), ResourceRef(kind, "x"), nonce="", unix_ms=0).url.endswith("/x")

    @pytest.mark.parametrize("kind", ["selfie/center-only", "inquiry-session", "verification", "inquiry/x", "webhook"])
    def test_another_kind_is_refused(self, kind):
        with pytest.raises(ValueError, match="no way to retrieve"):
            PERSONA.request(source(), ResourceRef(kind, "x"), nonce="", unix_ms=0)

    def test_the_headers_pin_version_and_inflection(self):
        request = PERSONA.request(source(api_version="2023-01-05"), SELFIE, nonce="", unix_ms=0)

        assert request.headers == {
            "Authorization": "Bearer persona_sandbox_key",
            "Persona-Version": "2023-01-05",
            "Key-Inflection": "kebab",
            "Accept": "application/json",
        }
        assert PERSONA.api_version(source()) == "2025-12-08"

    def test_without_a_key_no_credential_is_sent(self):
        request = PERSONA.request(source(api_key=None), SELFIE, nonce="", unix_ms=0)

        assert "Authorization" not in request.headers

    def test_the_probe_asks_for_nobody(self):
        request = PERSONA.probe(source(base_url="https://persona.test/v1"), nonce="", unix_ms=0)

        assert request.url == "https://persona.test/v1/inquiries/inq_000000000000000000000000"
        assert request.headers["Authorization"] == "Bearer persona_sandbox_key"


@pytest.mark.parametrize(
    ("status", "details", "kind"),
    [
        (400, "data.attributes.type must be a string", FailureKind.REJECTED),
        (401, "Token is invalid", FailureKind.CREDENTIAL),
        (402, "", FailureKind.CREDENTIAL),
        (403, "IP address is not permitted access to current environment", FailureKind.CREDENTIAL),
        (403, "TOKEN IS INVALID", FailureKind.CREDENTIAL),
        (403, "You may not read this inquiry", FailureKind.REJECTED),
        (403, "", FailureKind.REJECTED),
        (404, "", FailureKind.NOT_FOUND),
        (408, "", FailureKind.SERVER_ERROR),
        (409, "Resource already exists", FailureKind.CONFLICT),
        (422, "", FailureKind.REJECTED),
        (429, "", FailureKind.RATE_LIMITED),
        (500, "", FailureKind.SERVER_ERROR),
        (503, "", FailureKind.SERVER_ERROR),
    ],
)
def test_classify(status, details, kind):
    body = json.dumps({"errors": [{"title": "Some title", "details": details}]}).encode()

    assert PERSONA.classify(ErrorResponse(status, {}, body)) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": 1}', b'{"errors": [1, {"details": 2}]}', b"\xff"])
def test_a_403_without_words_refuses_one_resource(body):
    assert PERSONA.classify(ErrorResponse(403, {}, body)) is FailureKind.REJECTED


class TestSamples:
    def test_signature_vectors(self):
        folder = samples("persona") / "signature_vectors"
        for vector in json.loads((folder / "vectors.json").read_bytes())["vectors"]:
            body, now = (folder / vector["body_file"]).read_bytes(), vector["timestamp"]
            for header in (vector["header_single"], vector["header_rotation"]):
                authenticate(header, body, now=now, webhook_secrets=(vector["secret_current"],))
            authenticate(vector["header_rotation"], body, now=now, webhook_secrets=(vector["secret_other"],))
            with pytest.raises(AuthenticationFailed):
                authenticate(vector["header_bad"], body, now=now, webhook_secrets=(vector["secret_current"],))

    def test_every_webhook_is_accepted_or_ignored_for_a_reason(self):
        for path in sorted((samples("persona") / "webhooks").glob("*.json")):
            notification = parse(path.read_bytes())
            family = path.name.split(".")[0].split("-")[0]
            ignored = family in {"graph", "importer", "workflow"} or path.name.startswith("transaction-type")

            assert bool(notification.ignored_because) is ignored, path.name
            assert bool(notification.resources) is not ignored, path.name
            assert notification.occurred_at, path.name

    def test_every_error_is_classified(self):
        expected = {
            "bad-request": (400, FailureKind.REJECTED),
            "conflict": (409, FailureKind.CONFLICT),
            "forbidden": (403, FailureKind.CREDENTIAL),
            "not-found": (404, FailureKind.NOT_FOUND),
            "too-many-requests": (429, FailureKind.RATE_LIMITED),
            "unauthorized": (401, FailureKind.CREDENTIAL),
        }
        for name, (status, kind) in expected.items():
            body = (samples("persona") / "errors" / f"{name}.json").read_bytes()

            assert PERSONA.classify(ErrorResponse(status, {}, body)) is kind
