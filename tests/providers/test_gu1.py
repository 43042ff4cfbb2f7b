"""gu1: signatures, envelopes, rows and errors."""

import base64
import contextlib
import hashlib
import hmac
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.providers.samples import samples
from worker.domain.documents import content_digest, redact
from worker.domain.model import Drift, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, FailureKind, Outcome, Stage
from worker.domain.strict_json import Json, parse_object
from worker.errors import AuthenticationFailed, UnexpectedDocument, UnreadableJson, UnreadableNotification
from worker.providers.base import ErrorResponse, InboundRequest, Provider
from worker.providers.gu1 import Gu1Provider
from worker.providers.gu1_mapping import STATUSES, named_verifications
from worker.settings import Source

PROVIDER: Provider = Gu1Provider()
ORGANIZATION = "org-7"
ROW_ID = "0b6f3a52-6d1f-4e0e-9a37-0d5b7c1f2a10"
MATCH_ID = "2f4c9f0e-5a57-4c1c-8c64-6d9f7f0b1e22"
OTHER_ID = "9d3a2c44-1b7e-4f4b-b0c5-5f2f8c7e6d33"
BODY = b'{"event":"kyc.validation_approved"}'

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = st.sampled_from(
    ["id", "status", "match", "score", "threshold", "warnings", "decision", "biometricResult", "documentsVerified",
     "entity", "entityId", "vendorData", "externalId", "kycVerified", "deletedAt", "riskScore", "riskFactors",
     "createdAt", "updatedAt", "verifiedAt", "rejectionCode", "faceMatchId", "faceMatch", "data", "organizationId"]
)  # fmt: skip
ANY_ROW = st.dictionaries(MEMBERS, ANY_JSON | st.sampled_from([ROW_ID, "approved", "active"]))


def source(**settings) -> Source:
    base = {"slug": "gu1", "provider": "gu1", "webhook_secrets": ("first", "second"), "api_key": "gk_sandbox_key"}
    return Source.model_validate({**base, **settings})


def mac(secret: str = "first", body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def authenticate(header: str | None, **settings) -> None:
    headers = {} if header is None else {"x-webhook-signature": header}
    PROVIDER.authenticate(source(**settings), InboundRequest(BODY, headers), 0)


def parse(envelope: Json, **settings):
    return PROVIDER.parse(source(**settings), json.dumps(envelope).encode())


def read(kind: str, external_id: str = ROW_ID, /, **members):
    return PROVIDER.read(source(), ResourceRef(kind, external_id), {"id": external_id, **members})


@pytest.mark.parametrize(
    "header",
    [
        mac().hex(),
        mac().hex().upper(),
        "sha256=" + mac().hex(),
        "SHA256=" + mac().hex().upper(),
        f" {mac().hex()} ",
        mac("second").hex(),
    ],
)
def test_a_signature_in_hex_is_accepted_with_any_secret(header):
    authenticate(header)


@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_a_signature_in_base64_is_accepted_only_where_configured(prefix):
    header = prefix + base64.b64encode(mac("second")).decode()
    authenticate(header, signature_encoding="base64")
    with pytest.raises(AuthenticationFailed):
        authenticate(header)
    with pytest.raises(AuthenticationFailed):
        authenticate(mac().hex(), signature_encoding="base64")


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        "garbage",
        "ünïcödé",
        "\ud800",
        "0" * 63,
        "0" * 64,
        "0" * 65,
        "a" * 10_000,
        "=" * 44,
        "md5=" + mac().hex(),
        "sha256=sha256=" + mac().hex(),
        f"{mac().hex()},{mac().hex()}",
        mac("third").hex(),
        base64.b64encode(mac("third")).decode(),
        "٣" * 64,
    ],
)
def test_anything_else_is_refused_and_not_quoted(header, encoding):
    with pytest.raises(AuthenticationFailed) as refusal:
        authenticate(header, signature_encoding=encoding)
    assert len(str(refusal.value)) < 100
    assert not header or header not in str(refusal.value)
    assert "first" not in str(refusal.value)


def test_the_signature_covers_the_body():
    with pytest.raises(AuthenticationFailed):
        PROVIDER.authenticate(source(), InboundRequest(BODY + b" ", {"x-webhook-signature": mac().hex()}), 0)


def test_without_a_secret_every_webhook_is_refused():
    with pytest.raises(AuthenticationFailed, match="webhook_secrets"):
        authenticate(mac("").hex(), webhook_secrets=())


@pytest.mark.parametrize(
    ("event", "payload", "expected"),
    [
        ("kyc.validation_approved", {"validationId": ROW_ID, "id": OTHER_ID}, ("kyc-validation", ROW_ID)),
        ("kyc.validation_in_review", {"id": ROW_ID, "entityId": OTHER_ID}, ("kyc-validation", ROW_ID)),
        ("kyc.something_new", {"id": "session_xyz789"}, ("kyc-validation", "session_xyz789")),
        ("biometric.session_rejected", {"id": ROW_ID}, ("biometric-session", ROW_ID)),
        ("entity.created", {"entity": {"id": ROW_ID}}, ("entity", ROW_ID)),
        ("entity.updated", {"id": ROW_ID}, ("entity", ROW_ID)),
        ("face_match.completed", {"verificationId": ROW_ID}, ("face-match", ROW_ID)),
        ("kyc.face-match_declined", {"id": ROW_ID}, ("face-match", ROW_ID)),
        ("id_verification.completed", {"id": ROW_ID}, ("id-verification", ROW_ID)),
        ("transaction.created", {"faceMatchVerificationId": ROW_ID}, ("face-match", ROW_ID)),
        ("rule.triggered", {"context": [{"face_match": {"id": ROW_ID}}]}, ("face-match", ROW_ID)),
        ("alert.created", {"idVerification": {"verificationId": ROW_ID, "id": "x"}}, ("id-verification", ROW_ID)),
    ],
)
def test_an_event_names_what_to_retrieve(event, payload, expected):
    notification = parse({"event": event, "timestamp": "2026-01-07T11:00:00Z", "payload": payload})
    assert notification.resources == (ResourceRef(*expected),)
    assert notification.event_type == event
    assert notification.ignored_because is None
    assert notification.occurred_at is not None
    assert notification.occurred_at.isoformat() == "2026-01-07T11:00:00+00:00"


def test_the_legacy_envelope_is_read_too():
    notification = parse({"type": "kyc.validation_approved", "data": {"validationId": ROW_ID}})
    assert notification.resources == (ResourceRef("kyc-validation", ROW_ID),)
    assert notification.occurred_at is None


def test_a_face_match_named_beside_the_subject_is_retrieved_as_well():
    payload: Json = {"id": ROW_ID, "biometricResult": {"faceMatchId": MATCH_ID}, "idVerificationId": OTHER_ID}
    assert set(parse({"event": "kyc.validation_approved", "payload": payload}).resources) == {
        ResourceRef("kyc-validation", ROW_ID),
        ResourceRef("face-match", MATCH_ID),
        ResourceRef("id-verification", OTHER_ID),
    }


@pytest.mark.parametrize("event", ["transaction.created", "rule.triggered", "alert.resolved", "face_match.done", "x"])
def test_an_event_that_names_nothing_is_ignored_with_a_reason(event):
    notification = parse({"event": event, "payload": {"id": "tx_1", "type": "payment"}})
    assert notification.resources == ()
    assert notification.ignored_because


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"event": 7, "payload": {"id": ROW_ID}},
        {"event": "", "payload": {"id": ROW_ID}},
        {"event": "kyc.validation_approved"},
        {"event": "kyc.validation_approved", "payload": {}},
        {"event": "kyc.validation_approved", "payload": [ROW_ID]},
        {"event": "kyc.validation_approved", "payload": {"id": 7}},
        {"event": "biometric.session_approved", "payload": {"id": "../../admin"}},
        {"event": "entity.created", "payload": {"entity": {"id": "a" * 129}}},
    ],
)
def test_an_envelope_that_should_name_something_and_does_not_is_unreadable(envelope):
    with pytest.raises(UnreadableNotification):
        parse(envelope)


@pytest.mark.parametrize("place", ["envelope", "payload"])
def test_another_organizations_event_is_shown_to_operators(place):
    def of(organization: Json) -> dict[str, Json]:
        named: dict[str, Json] = {"organizationId": organization}
        payload: dict[str, Json] = {"id": ROW_ID, **(named if place == "payload" else {})}
        return {"event": "entity.updated", "payload": payload, **(named if place == "envelope" else {})}

    for stranger in ("org-8", 7, ""):
        with pytest.raises(UnreadableNotification, match="another organization"):
            parse(of(stranger), organization_id=ORGANIZATION)
        assert parse(of(stranger)).resources
    assert parse(of(ORGANIZATION), organization_id=ORGANIZATION).resources
    assert parse(of(None), organization_id=ORGANIZATION).resources


def test_the_delivery_key_is_a_digest_and_a_repeat_looks_again():
    body = json.dumps({"event": "entity.updated", "payload": {"id": ROW_ID}}).encode()
    notification = PROVIDER.parse(source(), body)
    assert notification.delivery_key == "sha256:" + hashlib.sha256(body).hexdigest()
    assert notification.repeat_looks_again
    assert notification.event_id is None


@pytest.mark.parametrize(
    "payload",
    [
        {"faceMatchId": "not-a-uuid"},
        {"faceMatchId": 7},
        {"faceMatch": None},
        {"faceMatch": {"id": "x"}},
        {"faceMatchScore": ROW_ID},
        {"verificationId": ROW_ID},
    ],
)
def test_the_finder_takes_only_uuids_under_the_names_it_knows(payload):
    assert named_verifications(payload) == ()


def test_the_finder_is_bounded_and_keeps_each_find_once():
    many: Json = [{"faceMatchId": f"00000000-0000-0000-0000-{number:012}"} for number in range(100)]
    assert len(named_verifications(many)) == 16
    assert len(named_verifications([{"faceMatchId": ROW_ID}, {"face_match_id": ROW_ID}])) == 1


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("face-match", "/api/kyc/face-match/verifications/"),
        ("kyc-validation", "/api/kyc/validations/"),
        ("biometric-session", "/api/kyc/biometric/sessions/"),
        ("id-verification", "/api/kyc/id-verification/verifications/"),
        ("entity", "/entities/"),
    ],
)
def test_each_kind_is_retrieved_where_it_lives(kind, path):
    request = PROVIDER.request(source(), ResourceRef(kind, ROW_ID), nonce="n", unix_ms=0)
    assert request.url == f"https://api.gu1.ai{path}{ROW_ID}"
    assert request.headers == {"Authorization": "Bearer gk_sandbox_key", "Accept": "application/json"}
    assert kind in PROVIDER.kinds


def test_the_organization_is_named_where_configured():
    scoped = source(organization_id=ORGANIZATION, base_url="http://localhost:9/")
    request = PROVIDER.request(scoped, ResourceRef("entity", "e1"), nonce="n", unix_ms=0)
    assert request.headers["X-Organization-Id"] == ORGANIZATION
    assert request.url == "http://localhost:9/entities/e1"


def test_an_unknown_kind_cannot_be_retrieved():
    with pytest.raises(ValueError, match="no resource of this kind"):
        PROVIDER.request(source(), ResourceRef("session", ROW_ID), nonce="n", unix_ms=0)
    with pytest.raises(UnexpectedDocument):
        PROVIDER.read(source(), ResourceRef("session", ROW_ID), {"id": ROW_ID})


def test_the_probe_asks_for_nobodys_data():
    request = PROVIDER.probe(source(), nonce="n", unix_ms=0)
    assert request.url.endswith("/face-match/verifications/00000000-0000-0000-0000-000000000000")
    assert request.headers["Authorization"] == "Bearer gk_sandbox_key"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"code":"BIOMETRIC_WORKFLOW_NOT_CONFIGURED"}', FailureKind.REJECTED),
        (401, b'{"error":{"code":"UNAUTHORIZED"}}', FailureKind.CREDENTIAL),
        (401, b"<html>", FailureKind.CREDENTIAL),
        (402, b"", FailureKind.CREDENTIAL),
        (403, b'{"code":"NOT_ENABLED"}', FailureKind.REJECTED),
        (403, b'{"error":"NOT_CONFIGURED"}', FailureKind.REJECTED),
        (403, b'{"error":{"code":"UNAUTHORIZED"}}', FailureKind.CREDENTIAL),
        (403, b'{"error":"UNAUTHORIZED"}', FailureKind.CREDENTIAL),
        (403, b"\xff\xfe", FailureKind.REJECTED),
        (403, b"[]", FailureKind.REJECTED),
        (404, b'{"code":"NOT_FOUND"}', FailureKind.NOT_FOUND),
        (410, b"", FailureKind.REJECTED),
        (422, b"", FailureKind.REJECTED),
        (429, b"", FailureKind.RATE_LIMITED),
        (500, b"", FailureKind.SERVER_ERROR),
        (503, b"<html>", FailureKind.SERVER_ERROR),
        (302, b"", FailureKind.UNREADABLE),
    ],
)
def test_errors_are_classified(status, body, expected):
    assert PROVIDER.classify(ErrorResponse(status, {}, body)) is expected


DECIDED, NONE = Stage.DECIDED, Outcome.NONE


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("face-match", "approved", Verdict(DECIDED, Outcome.APPROVED, True)),
        ("face-match", "declined", Verdict(DECIDED, Outcome.REJECTED, True)),
        ("face-match", "in_review", Verdict(Stage.IN_REVIEW, NONE, False)),
        ("face-match", "failed", Verdict(DECIDED, Outcome.INCONCLUSIVE, True)),
        ("id-verification", "approved", Verdict(DECIDED, Outcome.APPROVED, True)),
        ("id-verification", "declined", Verdict(DECIDED, Outcome.REJECTED, True)),
        ("id-verification", "in_review", Verdict(Stage.IN_REVIEW, NONE, False)),
        ("id-verification", "failed", Verdict(DECIDED, Outcome.INCONCLUSIVE, True)),
        ("kyc-validation", "pending", Verdict(Stage.CREATED, NONE, False)),
        ("kyc-validation", "in_progress", Verdict(Stage.IN_PROGRESS, NONE, False)),
        ("kyc-validation", "in_review", Verdict(Stage.IN_REVIEW, NONE, False)),
        ("kyc-validation", "approved", Verdict(DECIDED, Outcome.APPROVED, True)),
        ("kyc-validation", "rejected", Verdict(DECIDED, Outcome.REJECTED, True)),
        ("kyc-validation", "expired", Verdict(Stage.EXPIRED, NONE, True)),
        ("kyc-validation", "abandoned", Verdict(Stage.ABANDONED, NONE, True)),
        ("kyc-validation", "cancelled", Verdict(Stage.ABANDONED, NONE, True)),
        ("biometric-session", "pending", Verdict(Stage.CREATED, NONE, False)),
        ("biometric-session", "in_progress", Verdict(Stage.IN_PROGRESS, NONE, False)),
        ("biometric-session", "in_review", Verdict(Stage.IN_REVIEW, NONE, False)),
        ("biometric-session", "approved", Verdict(DECIDED, Outcome.APPROVED, True)),
        ("biometric-session", "rejected", Verdict(DECIDED, Outcome.REJECTED, True)),
        ("biometric-session", "expired", Verdict(Stage.EXPIRED, NONE, True)),
        ("biometric-session", "abandoned", Verdict(Stage.ABANDONED, NONE, True)),
        ("biometric-session", "cancelled", Verdict(Stage.ABANDONED, NONE, True)),
        ("entity", "under_review", Verdict(Stage.IN_REVIEW, NONE, False)),
        ("entity", "active", Verdict(Stage.CREATED, NONE, False)),
        ("entity", "blocked", Verdict(DECIDED, Outcome.REJECTED, False)),
    ],
)
def test_each_status_has_one_meaning(kind, status, expected):
    reading = read(kind, status=status)
    assert reading.verdict == expected
    assert reading.provider_status == status
    assert reading.drift == ()
    assert status in STATUSES[kind]


@pytest.mark.parametrize("kind", sorted(STATUSES))
@pytest.mark.parametrize(("status", "shown"), [("teleported", "teleported"), ("APPROVED", "APPROVED"), (7, "missing")])
def test_an_unknown_status_is_unmapped_and_reported(kind, status, shown):
    reading = read(kind, status=status)
    assert reading.verdict == Verdict(Stage.UNMAPPED, NONE, False)
    assert reading.drift == (Drift("status", shown),)


def test_a_face_match_tells_score_threshold_and_reference():
    reading = read(
        "face-match", status="approved", match=True, score=87.4, threshold=30, vendorData="ref-1", entityId=OTHER_ID,
        createdAt="2026-01-15T10:30:00.000Z", requestId="req", organizationId="anything",
    )  # fmt: skip
    [check] = reading.checks
    assert (check.name, check.outcome, check.score, check.threshold) == ("face_match", CheckOutcome.PASSED, 87.4, 30)
    assert check.details == {"match": True}
    assert (reading.score, reading.reference, reading.derived) == (87.4, "ref-1", False)
    assert reading.provider_created_at is not None
    assert reading.provider_updated_at is None


def test_a_failed_face_match_says_nothing_about_the_person():
    reading = read(
        "face-match", status="failed", match=False, score=None, threshold=30, errorMessage="could not be done"
    )
    [check] = reading.checks
    assert check.outcome is CheckOutcome.UNKNOWN
    assert check.reasons == ("could not be done",)
    assert reading.verdict.outcome is Outcome.INCONCLUSIVE
    assert reading.drift == ()


def test_an_approval_without_a_match_is_reported():
    assert read("face-match", status="approved", match=False).drift == (Drift("match", "false although approved"),)


def test_a_kyc_validation_lists_what_was_looked_at():
    reading = read(
        "kyc-validation", status="in_review", decision={"status": "in_review"}, warnings=["DUPLICATED_USER", 7],
        biometricResult={"status": "Approved", "score": 91, "warnings": ["LOW_LIGHT"]},
        documentsVerified=["passport", {"status": "rejected"}], verifiedAt="2026-01-07T11:00:00Z",
        updatedAt="2026-01-07T11:00:01Z", entity={"id": OTHER_ID, "externalId": "customer-1"}, entityId=OTHER_ID,
    )  # fmt: skip
    kyc, biometric, passport, second = reading.checks
    assert (kyc.name, kyc.outcome, kyc.provider_outcome) == ("kyc_validation", CheckOutcome.WARNING, "in_review")
    assert kyc.reasons == ("DUPLICATED_USER",)
    assert (biometric.name, biometric.outcome, biometric.score) == ("biometric", CheckOutcome.PASSED, 91)
    assert biometric.reasons == ("LOW_LIGHT",)
    assert (passport.name, passport.outcome) == ("document", CheckOutcome.UNKNOWN)
    assert (second.name, second.outcome) == ("document#2", CheckOutcome.FAILED)
    assert reading.reference == "customer-1"
    assert reading.completed_at is not None
    assert reading.provider_updated_at is not None


def test_a_pending_validation_has_no_checks_yet():
    assert read("kyc-validation", status="pending", decision=None, warnings=[], biometricResult=None).checks == ()
    assert read("biometric-session", status="pending").checks == ()


def test_a_rejected_biometric_session_tells_why():
    [check] = read("biometric-session", status="rejected", rejectionCode="CROSS_ENTITY", rejectionMessage="seen").checks
    assert (check.name, check.outcome, check.reasons) == ("face_match", CheckOutcome.FAILED, ("CROSS_ENTITY",))
    assert check.details == {"message": "seen"}


def test_an_active_entity_is_an_approval_only_after_kyc():
    reading = read("entity", status="active", kycVerified=True, riskScore=12, riskFactors=["A"], externalId="c-1")
    assert reading.verdict == Verdict(DECIDED, Outcome.APPROVED, final=False)
    assert reading.derived
    assert [(check.name, check.outcome) for check in reading.checks] == [
        ("kyc_verified", CheckOutcome.PASSED),
        ("risk", CheckOutcome.UNKNOWN),
    ]
    assert reading.reference == "c-1"
    [unverified] = read("entity", status="active", kycVerified=False).checks
    assert unverified.outcome is CheckOutcome.UNKNOWN
    assert read("entity", status="active", kycVerified="true").verdict.outcome is NONE


def test_a_deleted_entity_is_no_approval_and_no_erasure():
    reading = read("entity", status="active", kycVerified=True, deletedAt="2026-01-07T11:00:00Z")
    assert reading.verdict == Verdict(Stage.ABANDONED, NONE, final=False)
    assert (reading.derived, reading.provider_status) == (True, "active")
    assert reading.drift == (Drift("deletedAt", "set"),)
    assert read("entity", status="active", kycVerified=True, deletedAt=None).drift == ()


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"vendorData": "v", "entity": {"externalId": "x"}, "entityId": "e"}, "v"),
        ({"vendorData": None, "entity": {"externalId": "x"}, "entityId": "e"}, "x"),
        ({"vendorData": "", "entity": None, "entityId": "e"}, "e"),
        ({"vendorData": 7}, None),
    ],
)
def test_the_reference_is_the_customers_own_word_first(members, expected):
    assert read("kyc-validation", status="approved", **members).reference == expected


def test_a_row_may_come_wrapped():
    for wrapper in ("data", "validation"):
        document: dict[str, Json] = {wrapper: {"id": ROW_ID, "status": "approved"}, "success": True}
        reading = PROVIDER.read(source(), ResourceRef("kyc-validation", ROW_ID), document)
        assert reading.verdict.outcome is Outcome.APPROVED


@pytest.mark.parametrize(
    "document",
    [{}, {"id": OTHER_ID}, {"id": None}, {"id": 7}, {"data": {"id": OTHER_ID}}, {"data": [{"id": ROW_ID}]}],
)
def test_another_row_is_not_what_was_asked_for(document):
    with pytest.raises(UnexpectedDocument) as refusal:
        PROVIDER.read(source(), ResourceRef("face-match", ROW_ID), document)
    assert OTHER_ID not in str(refusal.value)


def test_another_organizations_row_is_not_what_was_asked_for():
    document: dict[str, Json] = {"id": ROW_ID, "status": "approved", "organizationId": "org-8"}
    ref = ResourceRef("face-match", ROW_ID)
    with pytest.raises(UnexpectedDocument):
        PROVIDER.read(source(organization_id=ORGANIZATION), ref, document)
    document["organizationId"] = ORGANIZATION
    assert PROVIDER.read(source(organization_id=ORGANIZATION), ref, document).verdict.final


def test_a_validations_face_match_is_discovered():
    reading = read("kyc-validation", status="approved", biometricResult={"faceMatch": {"id": MATCH_ID}})
    assert reading.related == (ResourceRef("face-match", MATCH_ID),)
    assert read("face-match", MATCH_ID, status="approved", faceMatchId=MATCH_ID).related == ()


def test_a_fresh_signature_in_an_image_link_is_no_change():
    paths = PROVIDER.paths(ResourceRef("kyc-validation", ROW_ID))
    rows: list[Json] = [{"id": ROW_ID, "image": f"https://media.example/a.jpg?sig={n}"} for n in range(2)]
    assert len({content_digest(row, paths.volatile) for row in rows}) == 1
    assert redact(rows[0], paths.secrets) == (rows[0], False)
    assert PROVIDER.api_version(source()) is None


@given(st.binary(max_size=200) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"event":"kyc.a","payload":{"id":"\\ud800"}}')
@example(b"[" * 10_000)
def test_no_body_breaks_the_parser(body):
    with contextlib.suppress(UnreadableJson, UnreadableNotification):
        PROVIDER.parse(source(organization_id=ORGANIZATION), body)


@given(st.sampled_from(["kyc.a", "biometric.b", "entity.c", "face_match.d", "rule.e"]), ANY_JSON | ANY_ROW)
def test_no_payload_breaks_the_parser(event, payload):
    try:
        notification = parse({"event": event, "payload": payload})
    except UnreadableNotification:
        return
    assert bool(notification.resources) != bool(notification.ignored_because)


@given(st.sampled_from(sorted(STATUSES)), ANY_ROW, st.booleans())
def test_no_document_breaks_the_reader(kind, row, own):
    try:
        reading = PROVIDER.read(source(), ResourceRef(kind, ROW_ID), {**row, **({"id": ROW_ID} if own else {})})
    except UnexpectedDocument:
        return
    json.dumps([dict(check.details) for check in reading.checks])
    assert len({check.name for check in reading.checks}) == len(reading.checks)
    assert reading.verdict.outcome is not Outcome.APPROVED or reading.verdict.stage is Stage.DECIDED


@given(st.text(max_size=80), st.sampled_from(["hex", "base64"]))
def test_no_header_breaks_the_authentication(header, encoding):
    with pytest.raises(AuthenticationFailed):
        authenticate(header, signature_encoding=encoding)


def sample(name: str) -> dict[str, Json]:
    return parse_object((samples("gu1") / name).read_bytes())


def test_the_sample_rows_are_read():
    expected = {
        "face_match_verification.shape.json": ("face-match", Outcome.APPROVED, "my-ref-1"),
        "face_match_verification.failed.shape.json": ("face-match", Outcome.INCONCLUSIVE, None),
        "kyc_validation_get.docs.json": ("kyc-validation", NONE, "123e4567-e89b-12d3-a456-426614174000"),
    }
    for name, (kind, outcome, reference) in expected.items():
        row = sample(name)
        reading = PROVIDER.read(source(), ResourceRef(kind, str(row["id"])), row)
        assert (reading.verdict.outcome, reading.reference, reading.drift) == (outcome, reference, ()), name
    listed = sample("id_verification_list.docs.json")["verifications"]
    assert isinstance(listed, list)
    [row] = [item for item in listed if isinstance(item, dict)]
    reading = PROVIDER.read(source(), ResourceRef("id-verification", str(row["id"])), row)
    assert reading.verdict == Verdict(DECIDED, Outcome.APPROVED, True)


def test_the_sample_webhooks_are_parsed():
    validation = ResourceRef("kyc-validation", "550e8400-e29b-41d4-a716-446655440000")
    expected: dict[str, tuple[ResourceRef, ...] | None] = {
        "webhook.LEGACY.type_data_shape.json": (validation,),
        "webhook.biometric.session_approved.docs.json": None,  # its payload is empty: the page is cut short
        "webhook.biometric.session_rejected.shape.json": (
            ResourceRef("biometric-session", "0f8fad5b-d9cb-469f-a165-70867728950e"),
        ),
        "webhook.entity.created.docs_partial.json": (ResourceRef("entity", validation.external_id),),
        "webhook.kyc.validation_approved.v1_summary.docs.json": (validation,),
        "webhook.kyc.validation_approved.v2_row.shape.json": (validation,),
        "webhook.kyc.validation_in_review.v2_row.shape.json": (validation,),
        "webhook.transaction.created.docs.json": (),
    }
    for path in sorted(samples("gu1").glob("webhook.*.json")):
        body = path.read_bytes()
        if (resources := expected[path.name]) is None:
            with pytest.raises(UnreadableNotification):
                PROVIDER.parse(source(), body)
        else:
            assert PROVIDER.parse(source(), body).resources == resources, path.name
