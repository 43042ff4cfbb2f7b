"""Each provider refuses whoever does not prove to be the customer, with its own error body."""

import pytest

from tests.simulator.support import CREDENTIALS, yoti_target
from web.simulator.credentials import Credentials, expired_access_token
from web.simulator.records import Ref

YOTI = "/yoti/idverify/v1"


@pytest.fixture
def selfie(world):
    return world.create("persona", "verification/selfie").ref


@pytest.fixture
def face(world):
    return world.create("verifik", "biometric-validation", shape="flat").ref


@pytest.fixture
def validation(world):
    return world.create("gu1", "kyc-validation").ref


@pytest.fixture
def session(world):
    return world.create("yoti", "session").ref


def test_persona_wants_its_key(caller, selfie):
    missing = caller.read(selfie, Authorization=None)
    wrong = caller.read(selfie, Authorization="Bearer persona_sandbox_wrong")

    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert missing.json() == {"errors": [{"title": "Must be authenticated to access this endpoint"}]}
    assert wrong.json()["errors"][0]["title"] == "Token is invalid"
    assert "RateLimit-Limit" not in wrong.headers
    assert caller.read(selfie).status_code == 200


def test_persona_wants_a_version_that_exists(caller, selfie):
    refused = caller.read(selfie, Persona_Version="2025-12-09")

    assert refused.status_code == 400
    assert "Persona-Version" in refused.json()["errors"][0]["details"]


def test_persona_serves_an_old_version_to_those_who_forget_to_pin(caller, world):
    account = world.create("persona", "account")
    inquiry = world.create("persona", "inquiry", account=account.ref.external_id).ref

    assert "included" in caller.read(inquiry, Persona_Version=None).json()
    assert "included" not in caller.read(inquiry).json()


def test_verifik_tells_missing_wrong_and_expired_tokens_apart(caller, face):
    missing = caller.read(face, Authorization=None)
    wrong = caller.read(face, Authorization="Bearer a.b.c")
    expired = caller.read(face, Authorization=f"Bearer {expired_access_token()}")

    assert (missing.status_code, wrong.status_code, expired.status_code) == (401, 401, 403)
    assert "Protected resource" in missing.json()["error"]
    assert wrong.json()["code"] == "Unauthorized"
    assert "signature" in wrong.json()
    assert expired.json() == {"code": "Forbidden", "message": "expired_token"}


@pytest.mark.parametrize("scheme", ["JWT", "bearer", ""])
def test_verifik_wants_bearer(caller, face, scheme):
    assert caller.read(face, Authorization=f"{scheme} {CREDENTIALS.verifik_access_token}".strip()).status_code == 401


def test_gu1_wants_key_and_organization(caller, validation):
    assert caller.read(validation, Authorization="Bearer gk_sandbox_wrong").status_code == 401
    assert caller.read(validation, X_Organization_Id=None).status_code == 401
    other = caller.read(validation, X_Organization_Id="another-organization")
    assert other.status_code == 404
    assert other.json()["code"] == "NOT_FOUND"
    assert caller.read(validation).status_code == 200


def test_yoti_accepts_what_the_key_signed(caller, session):
    assert caller.read(session).status_code == 200


def test_yoti_refuses_another_key(caller, session):
    stranger = Credentials.generate(1)
    target, digest = yoti_target(session.external_id, stranger)

    refused = caller.client.get(caller.simulator.url + YOTI + target, headers={"X-Yoti-Auth-Digest": digest})

    assert refused.status_code == 401
    assert refused.json()["code"] == "MESSAGE_SIGNING"
    assert "x-request-id" in refused.headers


@pytest.mark.parametrize(
    "tamper",
    [
        lambda target: target.replace("timestamp=1", "timestamp=2"),
        lambda target: target + "&extra=1",
        lambda target: target.replace("?sdkId", "/?sdkId"),
        lambda target: target.replace("-", "%2D", 1),
    ],
)
def test_yoti_refuses_a_path_that_is_not_byte_for_byte_the_signed_one(caller, session, tamper):
    target, digest = yoti_target(session.external_id)

    refused = caller.client.get(caller.simulator.url + YOTI + tamper(target), headers={"X-Yoti-Auth-Digest": digest})

    assert tamper(target) != target
    assert refused.status_code == 401


def test_yoti_does_not_sign_the_base_path(caller, session):
    """A client that signs `/idverify/v1/sessions/…` is wrong, as it would be with Yoti."""
    target, digest = yoti_target(session.external_id, prefix="/idverify/v1")

    refused = caller.client.get(caller.simulator.url + YOTI + target, headers={"X-Yoti-Auth-Digest": digest})

    assert refused.status_code == 401
    assert refused.json()["code"] == "MESSAGE_SIGNING"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"sdkId": None}, "query.sdkId"),
        ({"nonce": None}, "query.nonce"),
        ({"nonce": "once"}, "query.nonce"),
        ({"timestamp": None}, "query.timestamp"),
        ({"timestamp": "now"}, "query.timestamp"),
    ],
)
def test_yoti_names_the_parameter_that_is_missing(caller, session, changes, where):
    target, digest = yoti_target(session.external_id, **changes)

    refused = caller.client.get(caller.simulator.url + YOTI + target, headers={"X-Yoti-Auth-Digest": digest})

    assert refused.status_code == 400
    assert refused.json()["errors"][0]["property"] == where


def test_yoti_names_the_header_that_is_missing(caller, session):
    refused = caller.read(session, X_Yoti_Auth_Digest=None)

    assert refused.status_code == 400
    assert refused.json()["code"] == "MALFORMED_REQUEST"
    assert caller.read(session, X_Yoti_Auth_Digest="not base64").status_code == 401


def test_yoti_refuses_another_application(caller, session):
    target, digest = yoti_target(session.external_id, sdkId="b88ad843-13cc-44ba-a3e0-053f71d89b1f")

    refused = caller.client.get(caller.simulator.url + YOTI + target, headers={"X-Yoti-Auth-Digest": digest})

    assert refused.status_code == 401
    assert refused.json()["code"] == "BAD_SDK_ID"


def test_yoti_refuses_a_request_that_was_sent_before(caller, session):
    """A retry has to be signed again."""
    target, digest = yoti_target(session.external_id)
    url = caller.simulator.url + YOTI + target

    assert caller.client.get(url, headers={"X-Yoti-Auth-Digest": digest}).status_code == 200
    assert caller.client.get(url, headers={"X-Yoti-Auth-Digest": digest}).status_code == 401


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        (Ref("persona", "inquiry", "inq_unknown"), '"title":"Record not found"'),
        (Ref("verifik", "biometric-validation", "68" + "0" * 22), "404:biometric_validation_not_found"),
        (Ref("verifik", "document-liveness", "68" + "0" * 22), "DOCUMENT_LIVENESS_NOT_FOUND"),
        (Ref("verifik", "email-validation", "68" + "0" * 22), "Record not found."),
        (Ref("gu1", "face-match", "unknown"), "NOT_FOUND"),
        (Ref("yoti", "session", "00000000-0000-4000-8000-000000000000"), "SESSION_NOT_FOUND"),
    ],
)
def test_unknown_records_are_not_found_in_the_providers_own_words(caller, ref, told):
    answer = caller.read(ref)

    assert answer.status_code == 404
    assert told in answer.text


def test_a_record_is_found_below_its_own_path_only(caller, selfie):
    assert caller.persona(f"/verification/selfies/{selfie.external_id}").status_code == 200
    assert caller.persona(f"/verification/government-ids/{selfie.external_id}").status_code == 404
    assert caller.persona(f"/verification/unheard-of/{selfie.external_id}").status_code == 404
    assert caller.persona(f"/inquiries/{selfie.external_id}").status_code == 404
    assert caller.persona("/no/such/path/at/all").json() == {"errors": [{"title": "Record not found"}]}
