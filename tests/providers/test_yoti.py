"""Yoti: notification tokens, signed requests, sessions and errors."""

import base64
import contextlib
import hashlib
import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import example, given
from hypothesis import strategies as st

from tests.providers.samples import samples
from tests.providers.yoti_builders import (
    ANY_CHECK,
    ANY_JSON,
    ANY_SESSION,
    REF,
    SDK_ID,
    SESSION_ID,
    check,
    pem_of,
    profile,
    session,
    source,
)
from worker.domain.documents import content_digest, redact
from worker.domain.model import Check, Drift, Reading, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, FailureKind, Outcome, Stage
from worker.domain.strict_json import Json, member, parse_object
from worker.errors import (
    AuthenticationFailed,
    ConfigurationError,
    UnexpectedDocument,
    UnreadableJson,
    UnreadableNotification,
)
from worker.providers.base import ErrorResponse, InboundRequest, Provider
from worker.providers.yoti import YotiProvider, signature, signed_target
from worker.rsa_key import load_key

PROVIDER: Provider = YotiProvider()


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(token.encode()).decode()


def authenticate(header: str | None, **settings) -> None:
    headers = {} if header is None else {"authorization": header}
    PROVIDER.authenticate(source(**settings), InboundRequest(b"{}", headers), 0)


def read(document: dict[str, Json]) -> Reading:
    return PROVIDER.read(source(), REF, document)


@pytest.mark.parametrize(
    ("scheme", "header"),
    [
        ("basic", basic("user:pass")),
        ("basic", basic("next")),
        ("bearer", "Bearer user:pass"),
        ("bearer", "Bearer next"),
    ],
)
def test_either_token_is_accepted_under_the_configured_scheme(scheme, header):
    authenticate(header, notification_auth=scheme)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_token_beyond_ascii_is_compared_as_the_bytes_that_were_sent(scheme):
    token = "pässwörd-€"
    wire = b"Bearer " + token.encode() if scheme == "bearer" else basic(token).encode()
    authenticate(wire.decode("latin-1"), notification_auth=scheme, notification_tokens=(token,))


@pytest.mark.parametrize(
    ("scheme", "header"),
    [
        ("basic", None),
        ("basic", ""),
        ("basic", "Basic"),
        ("basic", "Basic "),
        ("basic", "Basic !!!"),
        ("basic", "Bearer user:pass"),
        ("basic", "Basic user:pass"),
        ("basic", basic("user:pass") + "="),
        ("basic", basic("user:pass") + " "),
        ("basic", basic("user:pas")),
        ("basic", basic("third")),
        ("basic", "ünïcödé"),
        ("basic", "漢字"),
        ("basic", "\ud800"),
        ("basic", "Basic " + "A" * 10_000),
        ("bearer", basic("user:pass")),
        ("bearer", "Bearer " + base64.b64encode(b"user:pass").decode()),
        ("bearer", "Bearer user:pass,next"),
        ("bearer", "user:pass"),
        ("bearer", "Bearer "),
    ],
)
def test_anything_else_is_refused_and_not_quoted(scheme, header):
    with pytest.raises(AuthenticationFailed) as refusal:
        authenticate(header, notification_auth=scheme)
    assert not header or header not in str(refusal.value)
    assert "user" not in str(refusal.value)


def test_without_a_token_every_notification_is_refused():
    for header in (None, "Basic ", "Bearer "):
        with pytest.raises(AuthenticationFailed, match="notification_tokens"):
            authenticate(header, notification_tokens=())


@pytest.mark.parametrize(
    ("topic", "extra"),
    [
        ("session_completion", {}),
        ("check_completion", {"check_id": SESSION_ID}),
        ("task_completion", {"task_id": SESSION_ID}),
        ("resource_update", {"resource_id": SESSION_ID}),
        ("client_session_token_deleted", {}),
        ("first_branch_visit", {}),
        ("a_topic_of_tomorrow", {}),
    ],
)
def test_every_topic_makes_the_session_wanted(topic, extra):
    body = json.dumps({"session_id": SESSION_ID.upper(), "topic": topic.upper(), **extra}).encode()
    notification = PROVIDER.parse(source(), body)
    assert notification.resources == (REF,)
    assert notification.event_type == topic
    assert notification.delivery_key == "sha256:" + hashlib.sha256(body).hexdigest()
    assert notification.repeat_looks_again
    assert (notification.event_id, notification.occurred_at, notification.ignored_because) == (None, None, None)


@pytest.mark.parametrize("message", [{"session_id": SESSION_ID}, {"session_id": SESSION_ID, "topic": 7}])
def test_a_missing_topic_does_not_hide_the_session(message):
    notification = PROVIDER.parse(source(), json.dumps(message).encode())
    assert (notification.event_type, notification.resources) == (None, (REF,))


@pytest.mark.parametrize(
    "session_id",
    [None, "", 7, [SESSION_ID], "abc", SESSION_ID[:-1], SESSION_ID + "0", SESSION_ID + "\n", "../" + SESSION_ID,
     SESSION_ID.replace("-", ""), "{" + SESSION_ID + "}", SESSION_ID.replace("5", "\u0665")],
)  # fmt: skip
def test_a_session_id_that_is_no_uuid_is_unreadable(session_id):
    with pytest.raises(UnreadableNotification):
        PROVIDER.parse(source(), json.dumps({"session_id": session_id, "topic": "session_completion"}).encode())


@pytest.mark.parametrize("base_url", ["https://api.yoti.com/idverify/v1", "https://api.yoti.com/sandbox/idverify/v1/"])
def test_what_is_signed_is_what_is_sent_without_the_base_url(key, base_url):
    request = PROVIDER.request(
        source(private_key=pem_of(key), base_url=base_url), REF, nonce="n-1", unix_ms=1763683200000
    )
    target = f"/sessions/{SESSION_ID}?sdkId={SDK_ID}&nonce=n-1&timestamp=1763683200000"
    assert request.url == base_url.rstrip("/") + target
    assert set(request.headers) == {"X-Yoti-Auth-Digest", "Accept"}
    digest = base64.b64decode(request.headers["X-Yoti-Auth-Digest"], validate=True)
    key.public_key().verify(digest, b"GET&" + target.encode(), PKCS1v15(), SHA256())


@given(nonce=st.text(min_size=1, max_size=40), unix_ms=st.integers(min_value=0, max_value=2**53))
def test_the_client_sends_the_target_byte_for_byte(nonce, unix_ms):
    nonce = nonce.encode("utf-8", "replace").decode()
    target = signed_target(f"/sessions/{SESSION_ID}", SDK_ID, nonce=nonce, unix_ms=unix_ms)
    assert httpx.URL("https://api.yoti.com/idverify/v1" + target).raw_path == b"/idverify/v1" + target.encode()


def test_a_body_is_signed_as_a_third_part(key):
    digest = base64.b64decode(signature(key, "POST", "/sessions?a=b", b"{}"))
    key.public_key().verify(digest, b"POST&/sessions?a=b&e30=", PKCS1v15(), SHA256())


def test_the_probe_asks_for_nobodys_session(key):
    request = PROVIDER.probe(source(private_key=pem_of(key)), nonce="n", unix_ms=1)
    assert "/sessions/00000000-0000-0000-0000-000000000000?sdkId=" in request.url
    assert "X-Yoti-Auth-Digest" in request.headers


@pytest.mark.parametrize("missing", ["sdk_id", "private_key"])
def test_a_missing_credential_is_named(key, missing):
    with pytest.raises(ConfigurationError, match=f"source yoti: {missing} is not set"):
        PROVIDER.request(source(**{"private_key": pem_of(key), missing: None}), REF, nonce="n", unix_ms=1)


def test_only_sessions_can_be_retrieved():
    with pytest.raises(ValueError, match="no resource of this kind"):
        PROVIDER.request(source(), ResourceRef("check", SESSION_ID), nonce="n", unix_ms=1)
    assert PROVIDER.kinds == ("session",)
    assert PROVIDER.api_version(source()) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"code":"MALFORMED_REQUEST","errors":[]}', FailureKind.REJECTED),
        (400, b"<html>", FailureKind.REJECTED),
        (401, b'{"code":"MESSAGE_SIGNING","message":"not signed correctly"}', FailureKind.CREDENTIAL),
        (401, b'{"code":"BAD_PUBLIC_KEY"}', FailureKind.CREDENTIAL),
        (401, b'{"code":"BAD_SDK_ID"}', FailureKind.REJECTED),
        (401, b"", FailureKind.CREDENTIAL),
        (401, b"<html>", FailureKind.CREDENTIAL),
        (401, b'["BAD_SDK_ID"]', FailureKind.CREDENTIAL),
        (403, b'{"code":"INSUFFICIENT_PERMISSION"}', FailureKind.CREDENTIAL),
        (403, b"<html>blocked", FailureKind.REJECTED),
        (404, b'{"code":"SESSION_NOT_FOUND"}', FailureKind.NOT_FOUND),
        (404, b'{"code":"APP_NOT_FOUND"}', FailureKind.CREDENTIAL),
        (404, b"\xff", FailureKind.NOT_FOUND),
        (409, b'{"code":"SESSION_LOCKED"}', FailureKind.CONFLICT),
        (410, b"", FailureKind.REJECTED),
        (429, b'{"code":"TOO_MANY_REQUESTS"}', FailureKind.RATE_LIMITED),
        (500, b'{"code":"SERVER_ERROR"}', FailureKind.SERVER_ERROR),
        (503, b'{"code":"TEMPORARILY_UNAVAILABLE"}', FailureKind.SERVER_ERROR),
        (204, b"", FailureKind.UNREADABLE),
    ],
)
def test_errors_are_classified(status, body, expected):
    assert PROVIDER.classify(ErrorResponse(status, {}, body)) is expected


def decided(outcome: Outcome) -> Verdict:
    return Verdict(Stage.DECIDED, outcome, final=True)


IN_PROGRESS = Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False)
FIRST, SECOND = {"created": "2026-01-01T10:00:00Z"}, {"created": "2026-01-01T10:05:00.5Z"}


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([check("LIVENESS"), check("ID_DOCUMENT_FACE_MATCH")], decided(Outcome.APPROVED)),
        ([check("LIVENESS"), check("A_CHECK_OF_TOMORROW", "REJECT")], decided(Outcome.REJECTED)),
        ([check("WATCHLIST_SCREENING", "CONSIDER"), check("LIVENESS")], decided(Outcome.INCONCLUSIVE)),
        ([check("ID_DOCUMENT_AUTHENTICITY", "NOT_AVAILABLE")], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), check("X", "NOT_AVAILABLE"), check("Y", "REJECT")], decided(Outcome.REJECTED)),
        ([check("LIVENESS", state="INTERNAL_ERROR")], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS", "REJECT", state="INTERNAL_ERROR")], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), check("X", None)], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), check("X", "MAYBE")], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), check("X", state="QUEUED")], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), None], decided(Outcome.INCONCLUSIVE)),
        ([], decided(Outcome.INCONCLUSIVE)),
        ([check("LIVENESS"), check("X", None, state="PENDING")], IN_PROGRESS),
        ([check("LIVENESS"), check("X", "REJECT", state="CREATED")], IN_PROGRESS),
        (
            [check("LIVENESS", "REJECT"), check("X", None, state="READY")],
            Verdict(Stage.DECIDED, Outcome.REJECTED, final=False),
        ),
        ([check("LIVENESS", "REJECT", **FIRST), check("LIVENESS", **SECOND)], decided(Outcome.APPROVED)),
        ([check("LIVENESS", **SECOND), check("LIVENESS", "REJECT", **FIRST)], decided(Outcome.APPROVED)),
        ([check("LIVENESS", **FIRST), check("LIVENESS", "REJECT", **SECOND)], decided(Outcome.REJECTED)),
        ([check("LIVENESS", "REJECT"), check("LIVENESS")], decided(Outcome.APPROVED)),
        ([check("X", "REJECT", **FIRST), check("X", **SECOND)], decided(Outcome.REJECTED)),
    ],
)
def test_the_verdict_of_a_completed_session_is_derived_from_its_checks(checks, expected):
    reading = read(session(*checks))
    assert reading.verdict == expected
    assert reading.derived
    assert reading.provider_status == "COMPLETED"


def test_a_failed_sub_check_decides_nothing():
    approved = check("ID_DOCUMENT_AUTHENTICITY")
    approved["report"] = {
        "recommendation": {"value": "APPROVE"},
        "breakdown": [{"sub_check": "hologram_movement", "result": "FAIL", "details": []}],
    }
    assert read(session(approved)).verdict.outcome is Outcome.APPROVED


@pytest.mark.parametrize(
    ("state", "expected", "drift"),
    [
        ("ONGOING", IN_PROGRESS, ()),
        ("EXPIRED", Verdict(Stage.EXPIRED, Outcome.NONE, final=False), ()),
        ("PROCESSING", Verdict(Stage.UNMAPPED, Outcome.NONE, final=False), (Drift("state", "PROCESSING"),)),
        ("completed", Verdict(Stage.UNMAPPED, Outcome.NONE, final=False), (Drift("state", "completed"),)),
        ("", Verdict(Stage.UNMAPPED, Outcome.NONE, final=False), (Drift("state", "missing"),)),
    ],
)
def test_only_a_completed_session_is_judged(state, expected, drift):
    reading = read(session(check("LIVENESS", "REJECT"), state=state))
    assert (reading.verdict, reading.drift, reading.derived) == (expected, drift, False)
    assert reading.completed_at is None


@pytest.mark.parametrize(
    ("state", "profiles", "expected"),
    [
        ("COMPLETED", [profile("DONE", True, True)], decided(Outcome.APPROVED)),
        ("COMPLETED", [profile("DONE", False)], decided(Outcome.REJECTED)),
        ("COMPLETED", [profile("DONE", True, False)], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("DONE", True, None)], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("DONE")], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("DONE", True, reason="MISSING_LIVENESS")], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("ABORTED", reason="MISSING_LIVENESS")], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("ABORTED", reason="FRAUD_DETECTED")], decided(Outcome.REJECTED)),
        ("COMPLETED", [profile("ABORTED")], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("DONE", True), profile("DONE", False)], decided(Outcome.REJECTED)),
        ("COMPLETED", [profile("DONE", True), profile("DONE")], decided(Outcome.INCONCLUSIVE)),
        ("COMPLETED", [profile("LATER", True)], Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)),
        ("ONGOING", [profile("DONE", True)], IN_PROGRESS),
        ("EXPIRED", [profile("ABORTED", reason="ABANDONED")], Verdict(Stage.ABANDONED, Outcome.NONE, final=True)),
        ("COMPLETED", [profile("ABORTED", reason="ABANDONED")], Verdict(Stage.ABANDONED, Outcome.NONE, final=True)),
        ("EXPIRED", [profile("ABORTED", reason="X")], Verdict(Stage.EXPIRED, Outcome.NONE, final=True)),
    ],
)
def test_an_identity_profile_brings_its_own_result(state, profiles, expected):
    blocks: dict[str, Json] = dict(zip(("identity_profile", "advanced_identity_profile"), profiles, strict=False))
    reading = read(session(check("LIVENESS", "REJECT"), state=state, **blocks))
    assert reading.verdict == expected
    assert bool(reading.drift) == (expected.stage is Stage.UNMAPPED)


def test_an_advanced_profile_is_measured_against_each_framework():
    scheme: Json = {"scheme": {"type": "DBS", "objective": "STANDARD", "label": "L"}, "requirements_met": True}
    unmet: Json = {"scheme": {"type": "RTW"}, "requirements_met": False, "requirements_not_met_info": "no photo"}
    compliance: Json = [
        {"trust_framework": "UK_TFIDA", "schemes_compliance": [scheme, unmet, unmet]},
        {"trust_framework": "YOTI_GLOBAL", "schemes_compliance": [scheme, "junk"]},
    ]
    details: Json = [{"failure_type": "ID_DOCUMENT_AUTHENTICITY", "details": "COUNTRY_NOT_SUPPORTED"}]
    block: Json = {
        "result": "ABORTED",
        "failure_reason": {"reason_code": "UNABLE", "requirements_not_met_details": details},
        "identity_profile_report": {"compliance": compliance},
    }
    whole, *schemes = read(session(advanced_identity_profile=block)).checks
    assert (whole.name, whole.provider_outcome, whole.outcome) == (
        "advanced_identity_profile", "ABORTED", CheckOutcome.UNKNOWN,
    )  # fmt: skip
    assert whole.reasons == ("UNABLE", "COUNTRY_NOT_SUPPORTED")
    assert [(item.name.removeprefix(whole.name), item.outcome, item.reasons) for item in schemes] == [
        ("/uk_tfida/dbs/standard", CheckOutcome.PASSED, ()),
        ("/uk_tfida/rtw", CheckOutcome.FAILED, ("no photo",)),
        ("/uk_tfida/rtw#2", CheckOutcome.FAILED, ("no photo",)),
        ("/yoti_global/dbs/standard", CheckOutcome.PASSED, ()),
    ]
    assert schemes[0].details == {"label": "L"}


def test_every_check_is_kept_under_a_name_of_its_own():
    resources: Json = {"id_documents": [{"id": "doc-1"}, {"id": "doc-2"}], "liveness_capture": [{"id": "face"}]}
    reading = read(
        session(
            check("ID_DOCUMENT_AUTHENTICITY", "NOT_AVAILABLE", resources_used=["doc-2"]),
            check("ID_DOCUMENT_AUTHENTICITY", resources_used=["face", "doc-1"]),
            check("LIVENESS", **SECOND),
            check("LIVENESS", "REJECT", **FIRST),
            resources=resources,
        )
    )
    named = {item.name: item for item in reading.checks}
    assert list(named) == ["id_document_authenticity#2", "id_document_authenticity", "liveness", "liveness#1"]
    assert named["id_document_authenticity"].outcome is CheckOutcome.PASSED
    assert (named["liveness"].required, named["liveness#1"].required) == (True, False)
    assert named["liveness#1"].details["superseded"] is True
    assert "superseded" not in named["liveness"].details


@pytest.mark.parametrize(
    ("value", "state", "expected", "shown"),
    [
        ("APPROVE", "DONE", CheckOutcome.PASSED, "APPROVE"),
        ("REJECT", "DONE", CheckOutcome.FAILED, "REJECT"),
        ("CONSIDER", "DONE", CheckOutcome.WARNING, "CONSIDER"),
        ("NOT_AVAILABLE", "DONE", CheckOutcome.UNKNOWN, "NOT_AVAILABLE"),
        ("MAYBE", "DONE", CheckOutcome.UNKNOWN, "MAYBE"),
        ("APPROVE", "PENDING", CheckOutcome.UNKNOWN, "PENDING"),
        (None, "INTERNAL_ERROR", CheckOutcome.UNKNOWN, "INTERNAL_ERROR"),
    ],
)
def test_a_checks_outcome_is_its_recommendation(value, state, expected, shown):
    [item] = read(session(check("LIVENESS", value, state=state))).checks
    assert (item.outcome, item.provider_outcome) == (expected, shown)


def test_unknown_words_of_checks_are_reported_once():
    odd: list[Json] = [check("X", "MAYBE"), check("Y", "MAYBE"), check("Z", state="QUEUED"), check("V", None), {}]
    assert read(session(*odd)).drift == (
        Drift("checks.report.recommendation.value", "MAYBE"),
        Drift("checks.state", "QUEUED"),
        Drift("checks.report.recommendation.value", "missing"),
        Drift("checks.state", "missing"),
    )


def with_report(kind: str, report: Json, **members: Json) -> Check:
    [item] = read(session({"type": kind, "state": "DONE", "report": report, **members})).checks
    return item


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.99", 0.99), ("1.00", 1.0), (0.5, 0.5), ("high", None), ("nan", None), ("1e999", None), (True, None)],
)
def test_the_score_is_the_confidence_of_a_sub_check(value, expected):
    breakdown: Json = [{"sub_check": "ai", "details": [{"name": "x"}, {"name": "confidence_score", "value": value}]}]
    item = with_report("ID_DOCUMENT_FACE_MATCH", {"recommendation": {"value": "APPROVE"}, "breakdown": breakdown})
    assert item.score == expected
    assert item.details["breakdown"] == breakdown


@pytest.mark.parametrize(
    ("criteria", "value", "found"),
    [
        ("MATCH", "APPROVE", True),
        ("MATCH", "REJECT", False),
        ("NO_MATCH", "APPROVE", False),
        ("NO MATCH", "REJECT", True),
        ("NO_MATCH", "NOT_AVAILABLE", None),
        ("OTHER", "REJECT", None),
    ],
)
def test_a_face_search_is_relative_to_its_criterion(criteria, value, found):
    config: Json = {"pool_id": "p", "pool_label": "Known faces", "approval_criteria": criteria}
    report: Json = {"recommendation": {"value": value, "reason": "MATCH_FOUND"}}
    item = with_report("FAMILIAR_FACE_SEARCH", report, config=config)
    assert item.reasons == ("MATCH_FOUND",)
    assert (item.details["approval_criteria"], item.details["pool_label"]) == (criteria, "Known faces")
    assert item.details.get("match_found") is found


def test_a_recovery_suggestion_and_a_reason_in_parts_are_kept():
    recommendation: Json = {"value": "NOT_AVAILABLE", "reason": {"value": "QUALITY"}, "recovery_suggestion": "LIGHT"}
    item = with_report("ID_DOCUMENT_AUTHENTICITY", {"recommendation": recommendation})
    assert (item.reasons, item.details["recovery_suggestion"]) == (("QUALITY",), "LIGHT")


def test_times_and_reference_come_from_the_session():
    task: Json = {"last_updated": "2026-01-01T12:00:00Z"}
    resources: Json = {"id_documents": [{"last_updated": "2026-01-01T11:00:00Z", "tasks": [task, None]}], "odd": 7}
    newest = check("LIVENESS", last_updated="2026-01-01T10:00:00.250Z")
    older = check("X", last_updated="2026-01-01T09:00:00Z")
    reading = read(session(newest, older, resources=resources, user_tracking_id="person-1"))
    assert reading.reference == "person-1"
    assert reading.provider_updated_at is not None
    assert reading.provider_updated_at.isoformat() == "2026-01-01T12:00:00+00:00"
    assert reading.completed_at is not None
    assert reading.completed_at.isoformat() == "2026-01-01T10:00:00.250000+00:00"


@pytest.mark.parametrize("session_id", [None, 7, "", SDK_ID, SESSION_ID + "0"])
def test_another_session_is_not_what_was_asked_for(session_id):
    with pytest.raises(UnexpectedDocument) as refusal:
        read({**session(), "session_id": session_id})
    assert str(session_id or "-") not in str(refusal.value).replace("session-", "")


def test_secrets_are_redacted_and_never_reach_a_check():
    config: Json = {"type": "WITH_CUSTOM_ACCOUNT", "api_key": "COMPLY-KEY"}
    report: Json = {
        "recommendation": {"value": "APPROVE"},
        "watchlist_summary": {"search_config": config, "total_hits": 2},
    }
    document = session(
        {"type": "WATCHLIST_ADVANCED_CA", "state": "DONE", "report": report}, client_session_token="LIVE"
    )
    redacted, found = redact(document, PROVIDER.paths(REF).secrets)
    assert found
    assert "COMPLY-KEY" not in json.dumps(redacted)
    assert "LIVE" not in json.dumps(member(redacted, "client_session_token"))
    [item] = read(document).checks
    assert "COMPLY-KEY" not in repr(item)
    assert item.details["total_hits"] == 2
    assert redact(session(), PROVIDER.paths(REF).secrets)[1] is False


def test_the_remaining_seconds_of_the_token_are_no_change():
    paths = PROVIDER.paths(REF)
    ignored = paths.volatile + paths.secrets
    readings: list[Json] = [session(client_session_token_ttl=n, client_session_token=f"t{n}") for n in (599, 12)]
    assert len({content_digest(document, ignored) for document in readings}) == 1
    assert content_digest(session(state="EXPIRED"), ignored) != content_digest(session(), ignored)


@given(st.binary(max_size=200) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"session_id":"\\ud800","topic":"\\ud800"}')
@example(b"{" * 10_000)
def test_no_body_breaks_the_parser(body):
    with contextlib.suppress(UnreadableJson, UnreadableNotification):
        PROVIDER.parse(source(), body)


@given(ANY_SESSION, st.lists(ANY_CHECK | ANY_JSON, max_size=5) | ANY_JSON, st.booleans())
def test_no_document_breaks_the_reader(document, checks, own):
    document = {**document, "checks": checks, **({"session_id": SESSION_ID} if own else {})}
    try:
        reading = read(document)
    except UnexpectedDocument:
        assert not own
        return
    json.dumps([dict(item.details) for item in reading.checks])
    recommended = {item.provider_outcome for item in reading.checks if item.required is True}
    if reading.verdict.outcome is Outcome.APPROVED:
        assert recommended == {"APPROVE"} or "DONE" in recommended


@given(st.text(max_size=80), st.sampled_from(["basic", "bearer"]))
def test_no_header_breaks_the_authentication(header, scheme):
    with pytest.raises(AuthenticationFailed):
        authenticate(header, notification_auth=scheme)


def test_the_signing_vectors_are_reproduced():
    vectors = json.loads((samples("yoti") / "signing_vectors.json").read_text())
    for case in vectors["cases"]:
        target = signed_target(case["endpoint"], case["sdkId"], nonce=case["nonce"], unix_ms=int(case["timestamp"]))
        body = (case["body_utf8"] or "").encode()
        assert case["base_url"] + target == case["url"], case["name"]
        digest = signature(load_key(vectors["private_key_pem"]), case["method"], target, body)
        assert digest == case["x_yoti_auth_digest"], case["name"]
        if case["method"] == "GET" and "/media/" not in target:
            settings = {key: case[key] for key in ("base_url",)} | {"sdk_id": case["sdkId"]}
            ref = ResourceRef("session", case["endpoint"].rpartition("/")[2])
            account = source(private_key=vectors["private_key_pem"], **settings)
            request = PROVIDER.request(account, ref, nonce=case["nonce"], unix_ms=int(case["timestamp"]))
            assert (request.url, request.headers["X-Yoti-Auth-Digest"]) == (case["url"], digest)
    assert len(vectors["cases"]) == 5


def test_the_sample_sessions_are_read():
    expected = {
        "seed_face_check_session.json": decided(Outcome.REJECTED),
        "php-sdk_session.json": IN_PROGRESS,
        "go-sdk_watchlist_screening.json": decided(Outcome.APPROVED),
        "go-sdk_watchlist_advanced_ca_profile_custom.json": decided(Outcome.INCONCLUSIVE),
        "python-sdk_response_get_docs_scan_session.json": decided(Outcome.APPROVED),
        # These three are filled-in shapes: done, requirements met, and yet with a reason for failing.
        "go-sdk_GetSessionResultWithIdentityProfile.json": decided(Outcome.INCONCLUSIVE),
        "go-sdk_GetSessionResultWithAdvancedIdentityProfile.json": decided(Outcome.INCONCLUSIVE),
        "php-sdk_sessionResultIdentityProfileResult.json": decided(Outcome.INCONCLUSIVE),
    }
    found = {path.name for path in samples("yoti").glob("*.json")} - {"notifications.json", "signing_vectors.json"}
    assert found == set(expected)
    for name, verdict in expected.items():
        document = parse_object((samples("yoti") / name).read_bytes().replace(b"<uuid>", SESSION_ID.encode()))
        reading = PROVIDER.read(source(), ResourceRef("session", str(document["session_id"])), document)
        assert reading.verdict == verdict, name
        assert (reading.drift, len({item.name for item in reading.checks})) == ((), len(reading.checks)), name


def test_the_sample_notifications_are_parsed():
    for message in json.loads((samples("yoti") / "notifications.json").read_text()):
        notification = PROVIDER.parse(source(), json.dumps(message).encode())
        assert notification.event_type == message["topic"]
        assert [ref.external_id for ref in notification.resources] == [message["session_id"]]
