"""Notifications: their shapes, and that their proofs can be checked by whoever knows only the documentation."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from tests.simulator.support import CREDENTIALS
from web.simulator.notifications import Attempt, Flaw, compose, sign
from web.simulator.world import World

NOW = 1_764_686_826


@pytest.fixture
def world():
    return World(3)


def notice_of(world, provider, kind, *actions, event=None, **extra):
    record = world.create(provider, kind)
    for action in actions:
        record = world.change(record.ref, action)
    return compose(world, record, event, **extra)


def persona_sets(header):
    return [dict(pair.split("=", 1) for pair in one.split(",")) for one in header.split(" ")]


def test_persona_signs_time_and_body(world):
    notice = notice_of(world, "persona", "verification/selfie", "approve")

    request = sign(CREDENTIALS, notice, attempt=Attempt(NOW))

    [only] = persona_sets(request.headers["Persona-Signature"])
    secret = CREDENTIALS.persona_webhook_secrets[0].encode()
    expected = hmac.new(secret, f"{NOW}.".encode() + request.body, hashlib.sha256).hexdigest()
    assert only == {"t": str(NOW), "v1": expected}
    assert request.path == "/webhooks/persona"
    assert request.headers["Persona-Webhook-Attempts-Made"] == "1"
    assert request.headers["Persona-Webhook-Attempts-Left"] == "7"
    assert request.headers["Persona-Webhook-First-Attempted-At"] == str(NOW)


def test_persona_signs_a_retry_anew_and_says_when_it_began(world):
    notice = notice_of(world, "persona", "inquiry")

    request = sign(CREDENTIALS, notice, attempt=Attempt(NOW + 64, number=3, first_at=NOW))

    assert persona_sets(request.headers["Persona-Signature"])[0]["t"] == str(NOW + 64)
    assert request.headers["Persona-Webhook-Attempts-Made"] == "3"
    assert request.headers["Persona-Webhook-Attempts-Left"] == "5"
    assert request.headers["Persona-Webhook-First-Attempted-At"] == str(NOW)


def test_persona_sends_two_sets_while_secrets_rotate(world):
    notice = notice_of(world, "persona", "inquiry")

    request = sign(CREDENTIALS, notice, attempt=Attempt(NOW), flaw=Flaw.ROTATING)

    sets = persona_sets(request.headers["Persona-Signature"])
    expected = {
        hmac.new(secret.encode(), f"{NOW}.".encode() + request.body, hashlib.sha256).hexdigest()
        for secret in CREDENTIALS.persona_webhook_secrets
    }
    assert {one["v1"] for one in sets} == expected
    assert len(expected) == 2


def test_persona_envelope(world):
    notice = notice_of(world, "persona", "verification/selfie", "retry")

    event = json.loads(notice.body)["data"]

    assert event["type"] == "event"
    assert event["id"] == notice.key
    assert event["id"].startswith("evt_")
    assert event["attributes"]["name"] == notice.event == "verification.requires-retry"
    payload = event["attributes"]["payload"]
    assert (payload["data"]["type"], payload["data"]["id"]) == ("verification/selfie", notice.ref.external_id)
    assert payload["data"]["attributes"]["status"] == "requires_retry"


@pytest.mark.parametrize(
    ("kind", "actions", "event"),
    [
        ("inquiry", (), "inquiry.created"),
        ("inquiry", ("start",), "inquiry.started"),
        ("inquiry", ("review",), "inquiry.marked-for-review"),
        ("inquiry", ("approve", "redact"), "inquiry.redacted"),
        ("verification/phone-number", ("complete",), "verification.submitted"),
        ("verification/selfie", ("approve", "redact"), "verification.passed"),
        ("report/watchlist", ("complete",), "report/watchlist.ready"),
        ("account", (), "account.created"),
    ],
)
def test_persona_event_names(world, kind, actions, event):
    assert notice_of(world, "persona", kind, *actions).event == event


def test_verifik_carries_a_token_in_the_path_and_no_secret_in_the_body(world):
    notice = notice_of(world, "verifik", "email-validation", "approve")

    request = sign(CREDENTIALS, notice, source="verifik-eu")

    body = json.loads(request.body)
    assert request.path == f"/webhooks/verifik-eu/{CREDENTIALS.verifik_webhook_token}"
    assert set(body) == {"type", "object"}
    assert body["type"] == "onboarding_email_validation_validated"
    assert body["object"]["_id"] == notice.ref.external_id
    assert "verificationCode" not in body["object"]
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("kind", "actions", "event"),
    [
        ("app-registration", (), "onboarding_app_registration_created"),
        ("app-registration", ("approve",), "onboarding_app_registration_completed"),
        ("app-registration", ("complete",), "onboarding_app_registration_completed_without_kyc"),
        ("app-registration", ("review",), "onboarding_app_registration_needs_manual_verification"),
        ("biometric-validation", ("decline",), "onboarding_biometric_validation_failed"),
        ("biometric-validation", ("approve",), "onboarding_biometric_validation_validated"),
        ("document-validation", ("review",), "onboarding_document_validation_manual_verification_required"),
        ("document-validation", ("complete",), "onboarding_document_validation_data_source_error"),
        ("phone-validation", (), "onboarding_phone_validation_created"),
    ],
)
def test_verifik_event_names(world, kind, actions, event):
    assert notice_of(world, "verifik", kind, *actions).event == event


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_gu1_signs_the_body(world, encoding):
    notice = notice_of(world, "gu1", "kyc-validation", "review")

    request = sign(replace(CREDENTIALS, gu1_signature_encoding=encoding), notice)

    digest = hmac.new(CREDENTIALS.gu1_webhook_secret.encode(), request.body, hashlib.sha256).digest()
    expected = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert request.headers["X-Webhook-Signature"] == expected
    body = json.loads(request.body)
    assert body["event"] == "kyc.validation_in_review"
    assert body["organizationId"] == CREDENTIALS.gu1_organization_id
    assert body["payload"]["id"] == notice.ref.external_id
    assert body["payload"]["warnings"] == ["POSSIBLE_DUPLICATED_USER"]


def test_gu1_shows_the_entity_of_a_decision(world):
    entity = world.create("gu1", "entity").ref
    validation = world.create("gu1", "kyc-validation", parent=entity).ref

    decided = json.loads(compose(world, world.change(validation, "approve")).body)
    told = json.loads(compose(world, world.change(entity, "approve")).body)

    assert decided["payload"]["entity"]["id"] == entity.external_id
    assert (told["event"], told["payload"]["entity"]["status"]) == ("entity.status_changed", "active")


@pytest.mark.parametrize(("auth", "scheme"), [("basic", "Basic"), ("bearer", "Bearer")])
def test_yoti_sends_the_token_of_the_session(world, auth, scheme):
    notice = notice_of(world, "yoti", "session", "approve")

    request = sign(replace(CREDENTIALS, yoti_notification_auth=auth), notice)

    token = CREDENTIALS.yoti_notification_token
    sent = base64.b64encode(token.encode()).decode() if auth == "basic" else token
    assert request.headers["Authorization"] == f"{scheme} {sent}"
    assert json.loads(request.body) == {"session_id": notice.ref.external_id, "topic": "session_completion"}


def test_yoti_names_the_check_that_is_done(world):
    notice = notice_of(world, "yoti", "session", "start", "complete")
    record = world.get(notice.ref)

    assert record is not None
    checks = record.document["checks"]
    assert json.loads(notice.body) == {
        "session_id": notice.ref.external_id,
        "topic": "check_completion",
        "check_id": checks[0]["id"],
    }
    assert notice_of(world, "yoti", "session").event == "client_session_token_deleted"
    other = notice_of(world, "yoti", "session", event="task_completion", task_id="a-task")
    assert json.loads(other.body)["task_id"] == "a-task"


@pytest.mark.parametrize(
    ("provider", "kind"), [("verifik", "document-liveness"), ("gu1", "face-match"), ("gu1", "id-verification")]
)
def test_nobody_notifies_about_what_is_synchronous(world, provider, kind):
    with pytest.raises(ValueError, match="sends nothing about"):
        notice_of(world, provider, kind)


@pytest.mark.parametrize(
    ("provider", "kind", "header"),
    [
        ("persona", "inquiry", "Persona-Signature"),
        ("gu1", "kyc-validation", "X-Webhook-Signature"),
        ("yoti", "session", "Authorization"),
    ],
)
def test_flaws(world, provider, kind, header):
    notice = notice_of(world, provider, kind)
    good = sign(CREDENTIALS, notice, attempt=Attempt(NOW))

    wrong = sign(CREDENTIALS, notice, attempt=Attempt(NOW), flaw=Flaw.WRONG_SIGNATURE)
    bare = sign(CREDENTIALS, notice, attempt=Attempt(NOW), flaw=Flaw.NO_SIGNATURE)
    tampered = sign(CREDENTIALS, notice, attempt=Attempt(NOW), flaw=Flaw.TAMPERED_BODY)

    assert wrong.headers[header] != good.headers[header]
    assert wrong.body == good.body
    assert header not in bare.headers
    assert tampered.headers[header] == good.headers[header]
    assert tampered.body != good.body
    assert json.loads(tampered.body) == json.loads(good.body)


def test_flaws_of_a_token_in_the_path_and_of_time(world):
    registration = notice_of(world, "verifik", "app-registration")
    assert sign(CREDENTIALS, registration, flaw=Flaw.WRONG_SIGNATURE).path == "/webhooks/verifik/wrong-token"
    assert sign(CREDENTIALS, registration, flaw=Flaw.NO_SIGNATURE).path == "/webhooks/verifik"

    inquiry = notice_of(world, "persona", "inquiry")
    old = sign(CREDENTIALS, inquiry, attempt=Attempt(NOW), flaw=Flaw.OLD_TIMESTAMP)
    [only] = persona_sets(old.headers["Persona-Signature"])
    expected = hmac.new(
        CREDENTIALS.persona_webhook_secrets[0].encode(), f"{only['t']}.".encode() + old.body, hashlib.sha256
    )
    assert int(only["t"]) == NOW - 86_400
    assert only["v1"] == expected.hexdigest()


def test_secrets_do_not_show_in_reprs(world):
    request = sign(CREDENTIALS, notice_of(world, "gu1", "kyc-validation"))

    shown = repr(CREDENTIALS) + repr(request)

    assert CREDENTIALS.gu1_webhook_secret not in shown
    assert CREDENTIALS.persona_api_key not in shown
    assert request.headers["X-Webhook-Signature"] not in shown
