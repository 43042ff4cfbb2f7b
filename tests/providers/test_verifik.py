"""Verifik: the secret URL, notifications, retrieve calls, and what its errors mean."""

import contextlib
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.samples import samples
from worker.domain.model import ResourceRef
from worker.domain.states import FailureKind
from worker.errors import AuthenticationFailed, UnreadableJson, UnreadableNotification
from worker.providers.base import ErrorResponse, InboundRequest
from worker.providers.verifik import PATHS, POPULATES, VerifikProvider
from worker.settings import Source

ID = "674de8df21c72be3cc42b8a7"
TOKEN = "tok-Current_0123456789"
VERIFIK = VerifikProvider()


def source(**changes):
    values = {
        "slug": "verifik-live",
        "provider": "verifik",
        "webhook_tokens": (TOKEN,),
        "access_token": "header.claims.signature",
        **changes,
    }
    return Source.model_validate(values)


def authenticate(token, **changes):
    VERIFIK.authenticate(source(**changes), InboundRequest(b"{}", token=token), now=0)


def notify(event_type, record):
    return json.dumps({"type": event_type, "object": record}).encode()


def parse(body):
    return VERIFIK.parse(source(), body)


def request(kind, **changes):
    return VERIFIK.request(source(**changes), ResourceRef(kind, ID), nonce="", unix_ms=0)


class TestAuthenticate:
    def test_the_configured_token(self):
        authenticate(TOKEN)

    @pytest.mark.parametrize("tokens", [(TOKEN, "next"), ("next", TOKEN)])
    def test_any_of_several_tokens(self, tokens):
        authenticate(TOKEN, webhook_tokens=tokens)

    @pytest.mark.parametrize(
        "token", [None, "", TOKEN[:-1], f"{TOKEN}x", TOKEN.lower(), "x" * 100_000, "ü", "\udcff", "\0"]
    )
    def test_anything_else_is_refused_and_not_quoted(self, token):
        with pytest.raises(AuthenticationFailed) as caught:
            authenticate(token)

        assert TOKEN[:8] not in str(caught.value)

    @pytest.mark.parametrize("token", [None, "", "None"])
    def test_without_a_token_everything_is_refused(self, token):
        with pytest.raises(AuthenticationFailed, match="webhook_tokens"):
            authenticate(token, webhook_tokens=())

    @given(st.text())
    def test_no_text_raises_anything_else(self, token):
        with pytest.raises(AuthenticationFailed):
            authenticate(token)


SUFFIXES = [
    ("app_registration_created", "app-registration"),
    ("app_registration_sync_document", "app-registration"),
    ("app_registration_sync_liveness", "app-registration"),
    ("app_registration_completed", "app-registration"),
    ("app_registration_completed_without_kyc", "app-registration"),
    ("app_registration_needs_manual_verification", "app-registration"),
    ("app_registration_failed", "app-registration"),
    ("app_registration_person_already_set", "app-registration"),
    ("app_registration_of_next_year", "app-registration"),
    ("face_verification_compare", "app-registration"),
    ("email_validation_otp_incorect", "email-validation"),
    ("phone_validation_resend", "phone-validation"),
    ("document_validation_created", "document-validation"),
    ("document_validation_data_source_error", "document-validation"),
    ("biometric_validation_new", "biometric-validation"),
    ("biometric_validation_created_person", "biometric-validation"),
    ("biometric_validation_liveness_failed", "biometric-validation"),
    ("biometrics_liveness_score_not_acceptable", "biometric-validation"),
    ("information_validation_background_check", "information-validation"),
    ("document_liveness_completed", "document-liveness"),
]


class TestParse:
    @pytest.mark.parametrize(("suffix", "kind"), SUFFIXES)
    @pytest.mark.parametrize("prefix", ["onboarding_", "login_", "smartlink_", "a_flow_of_next_year_", ""])
    def test_the_suffix_tells_the_kind(self, prefix, suffix, kind):
        notification = parse(notify(prefix + suffix, {"_id": ID}))

        assert notification.resources == (ResourceRef(kind, ID),)
        assert notification.event_type == prefix + suffix
        assert notification.ignored_because is None

    def test_the_key_is_the_body_and_a_repeat_looks_again(self):
        body = notify("onboarding_app_registration_completed", {"_id": ID, "updatedAt": "2026-01-02T03:04:05.678Z"})
        notification = parse(body)

        assert notification.delivery_key == "sha256:" + hashlib.sha256(body).hexdigest()
        assert (notification.event_id, notification.repeat_looks_again) == (None, True)
        assert notification.occurred_at
        assert notification.occurred_at.isoformat() == "2026-01-02T03:04:05.678000+00:00"

    def test_an_error_merged_into_the_object_still_names_the_record(self):
        record = {"error": True, "statusCode": "409", "message": "person_already_set", "_id": ID, "status": "ONGOING"}

        [ref] = parse(notify("onboarding_app_registration_person_already_set", record)).resources
        assert ref == ResourceRef("app-registration", ID)

    @pytest.mark.parametrize("record_id", [ID, "biometric_validation_123456789", "674de8df21c72be3cc42b8a10", "a-B_1"])
    def test_ids_need_not_look_like_the_databases(self, record_id):
        assert parse(notify("login_biometric_validation_new", {"_id": record_id})).resources[0].external_id == record_id

    @pytest.mark.parametrize(
        "body",
        [
            {"event": "biometric_validation_validated", "timestamp": "2024-12-16T13:00:00Z", "data": {"_id": ID}},
            {"id": "evt_1", "type": "verification.completed", "data": {"verificationId": "ver_1"}},
            {"type": "fleet_alert_speeding", "object": {"_id": ID}},
            {"type": "onboarding_mapp_registration_done", "object": {"_id": ID}},
            {"type": "onboarding_app_registrations", "object": {"_id": ID}},
            {"type": "", "object": {"_id": ID}},
            {"type": 7, "object": {"_id": ID}},
            {"hello": "world"},
            {},
        ],
    )
    def test_an_unknown_type_is_ignored(self, body):
        notification = parse(json.dumps(body).encode())

        assert notification.resources == ()
        assert notification.ignored_because == "unknown event type"
        assert notification.delivery_key.startswith("sha256:")

    @pytest.mark.parametrize(
        "record", [None, [], "text", {}, {"_id": None}, {"_id": ""}, {"_id": 7}, {"_id": "../x"}, {"_id": "x" * 129}]
    )
    def test_a_record_without_a_usable_id_is_unreadable(self, record):
        with pytest.raises(UnreadableNotification):
            parse(notify("onboarding_app_registration_completed", record))

    @given(st.binary())
    def test_no_bytes_raise_anything_else(self, body):
        with contextlib.suppress(UnreadableJson, UnreadableNotification):
            assert parse(body).resources == ()

    @given(
        st.text() | st.sampled_from([suffix for suffix, _ in SUFFIXES]),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: st.dictionaries(st.sampled_from(["_id", "updatedAt", "x"]), inner) | st.lists(inner),
        ),
    )
    def test_no_shape_raises_anything_else(self, event_type, record):
        with contextlib.suppress(UnreadableNotification):
            parse(notify(event_type, record))


class TestRequest:
    @pytest.mark.parametrize("kind", [kind for kind in PATHS if kind != "app-registration"])
    def test_each_kind_has_its_path(self, kind):
        expected = "document-liveness" if kind == "document-liveness" else f"{kind}s"

        assert request(kind).url == f"https://api.verifik.co/v2/{expected}/{ID}"
        assert kind in VERIFIK.kinds

    def test_a_registration_brings_its_face_comparison_along(self):
        url = f"https://api.verifik.co/v2/app-registrations/{ID}?populates%5B%5D=compareFaceVerification"

        assert request("app-registration").url == url
        assert request("app-registration", populates=("compareFaceVerification",)).url == url

    def test_populates_are_sent_where_the_kind_allows_them(self):
        populates = ("project", "documentValidation.documentLiveness", "documentLiveness", "nonsense")

        assert request("app-registration", populates=populates).url.partition("?")[2] == (
            "populates%5B%5D=compareFaceVerification&populates%5B%5D=project"
            "&populates%5B%5D=documentValidation.documentLiveness"
        )
        assert request("document-validation", populates=populates).url.endswith("?populates%5B%5D=documentLiveness")
        assert request("biometric-validation", populates=populates).url.endswith("?populates%5B%5D=project")
        assert "?" not in request("information-validation", populates=populates).url

    def test_only_kinds_that_can_be_retrieved_are_populated(self):
        assert set(POPULATES) <= set(PATHS)

    @pytest.mark.parametrize("kind", ["face-verification", "app-login", "inquiry"])
    def test_another_kind_is_refused(self, kind):
        with pytest.raises(ValueError, match="no way to retrieve"):
            request(kind)

    def test_the_headers(self):
        expected = {"Authorization": "Bearer header.claims.signature", "Accept": "application/json"}

        assert request("document-liveness").headers == expected
        assert request("document-liveness", access_token=None).headers == {"Accept": "application/json"}
        assert VERIFIK.api_version(source()) == "v2"

    def test_the_probe_asks_for_nobody(self):
        probe = VERIFIK.probe(source(base_url="https://verifik.test/"), nonce="", unix_ms=0)

        assert probe.url == "https://verifik.test/v2/app-registrations/000000000000000000000000"
        assert "Authorization" in probe.headers


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (204, "", FailureKind.NOT_FOUND),
        (400, '{"message": "bad"}', FailureKind.REJECTED),
        (401, '{"code": "Unauthorized", "message": "Invalid or expired token."}', FailureKind.CREDENTIAL),
        (401, '{"error": "Protected resource, use Authorization header to get access"}', FailureKind.CREDENTIAL),
        (402, '{"message": "insufficient credits"}', FailureKind.CREDENTIAL),
        (403, '{"code": "Forbidden", "message": "expired_token"}', FailureKind.CREDENTIAL),
        (403, '{"error": true, "statusCode": "403", "message": "403:expired_token"}', FailureKind.CREDENTIAL),
        (403, '{"data": {"code": "expired_token", "detail": []}}', FailureKind.CREDENTIAL),
        (403, '{"code": "Forbidden", "message": "Access forbidden"}', FailureKind.REJECTED),
        (403, '{"message": "access_denied"}', FailureKind.REJECTED),
        (403, "<html>", FailureKind.REJECTED),
        (403, '{"message": 7, "data": []}', FailureKind.REJECTED),
        (404, '{"code": "NotFound", "message": "Record not found."}', FailureKind.NOT_FOUND),
        (409, '{"code": "MissingParameter", "message": "missing url\\n"}', FailureKind.REJECTED),
        (409, '{"code": "MissingParameter", "message": "missing Authorization header\\n"}', FailureKind.CREDENTIAL),
        (409, '{"code": "liveness_failed", "message": "409:liveness_failed@0.45"}', FailureKind.REJECTED),
        (412, '{"message": "app_registration_has_expired"}', FailureKind.REJECTED),
        (413, "", FailureKind.REJECTED),
        (408, "", FailureKind.SERVER_ERROR),
        (429, "", FailureKind.RATE_LIMITED),
        (500, '{"message": "expired_token"}', FailureKind.SERVER_ERROR),
        (503, "", FailureKind.SERVER_ERROR),
    ],
)
def test_classify(status, body, kind):
    assert VERIFIK.classify(ErrorResponse(status, {}, body.encode())) is kind


class TestSamples:
    def test_every_webhook(self):
        ignored = set()
        for path in sorted(samples("verifik").glob("webhook.*.json")):
            notification = parse(path.read_bytes())
            if notification.ignored_because:
                ignored.add(path.name.split(".")[1])
            else:
                assert len(notification.resources) == 1, path.name
        assert ignored == {"CONTRADICTED"}

    def test_every_error(self):
        credential = {"error.401.auth_session", "error.401.missing_header.real", "error.403.expired_token"}
        for path in sorted(samples("verifik").glob("error.4*.json")):
            kind = VERIFIK.classify(ErrorResponse(int(path.name.split(".")[1]), {}, path.read_bytes()))

            assert (kind is FailureKind.CREDENTIAL) is (path.stem in credential), path.name
            assert (kind is FailureKind.NOT_FOUND) is path.name.startswith("error.404"), path.name
