"""The receiving application as a WSGI server calls it, and a look at what it stored: for tests of what may come in."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.evidence import Row, rows
from web.app import create_app
from web.simulator.credentials import Credentials, settings_for
from web.simulator.notifications import Attempt, Flaw, Notice, WebhookRequest, compose, sign
from web.simulator.records import Ref
from web.simulator.world import World
from worker.pipeline import receive
from worker.runtime import Runtime
from worker.settings import Settings
from worker.store import schema
from worker.store.types import unpacked

PROVIDERS = ("persona", "verifik", "gu1", "yoti")
LONGEST_BODY = 4_000
PERSONA_ID = "ver_R5y8wz6kpp6Vd2m5d6yT1u9f"
UUID = "3f0c7a52-90aa-4d8e-9c5f-2a0f7c0b7d11"
EVENTS = {
    "persona": "verification.passed", "verifik": "onboarding_biometric_validation_created",
    "gu1": "kyc.validation_approved", "yoti": "session_completion",
}  # fmt: skip
GOOD_IDS = {"persona": PERSONA_ID, "verifik": "66b1f0a2c4d5e6f708192a3b", "gu1": UUID, "yoti": UUID}


@dataclass(frozen=True, slots=True)
class Door:
    """The application, and what it has stored."""

    client: FlaskClient
    credentials: Credentials
    world: World
    database_url: str

    def request(self, provider: str, body: bytes, flaw: Flaw | None = None) -> WebhookRequest:
        """A request as this provider signs it, whatever the body."""
        notice = Notice(Ref(provider, "made-up", "made-up"), 1, "made up", "made up", body)
        return sign(self.credentials, notice, flaw=flaw)

    def genuine(self, provider: str, flaw: Flaw | None = None, **attempt: int) -> WebhookRequest:
        """A real notification of this provider."""
        kind = {"persona": "inquiry", "verifik": "biometric-validation", "gu1": "kyc-validation", "yoti": "session"}
        notice = compose(self.world, self.world.create(provider, kind[provider]))
        return sign(self.credentials, notice, flaw=flaw, attempt=Attempt(**attempt) if attempt else None)

    def post(self, request: WebhookRequest, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(request.path, data=request.body, headers={**request.headers, **named})

    def send(self, provider: str, body: bytes, **headers: str) -> tuple[str, Row]:
        """What a signed request with this body was answered, and the delivery that it made."""
        answer = self.post(self.request(provider, body), **headers)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        delivery = self.delivery(answer.json["delivery"])
        if answer.json["status"] == "duplicate":
            return "duplicate", delivery
        assert delivery["body"] == body
        assert delivery["body_sha256"] == hashlib.sha256(body).hexdigest()
        return answer.json["status"], delivery

    def delivery(self, delivery_id: str) -> Row:
        statement = f"""
            SELECT * FROM deliveries d JOIN delivery_bodies b ON b.delivery_id = d.id
            WHERE d.id = '{uuid.UUID(delivery_id).hex}'
        """  # noqa: S608 - hex digits
        [row] = rows(self.database_url, statement)
        stored = row["body"]
        assert isinstance(stored, bytes)
        return {**row, "body": unpacked(stored)}

    def deliveries(self) -> int:
        return int(str(rows(self.database_url, "SELECT count(*) AS n FROM deliveries")[0]["n"]))

    def quarantined(self) -> list[Row]:
        return rows(self.database_url, "SELECT * FROM quarantined_deliveries ORDER BY id")

    def resources(self) -> set[str]:
        found = rows(self.database_url, "SELECT kind, external_id FROM resources")
        return {f"{row['kind']} {row['external_id']}" for row in found}

    def refused(self, answer: TestResponse) -> Row:
        """The row in quarantine of a request that was refused with this answer."""
        assert answer.status_code == 401
        return self.quarantined()[-1]


@contextmanager
def opened(credentials: Credentials, url: str) -> Iterator[Door]:
    """The application on a migrated database."""
    runtime = Runtime(configured(credentials, url), ring_with=lambda _source: None)
    with pytest.MonkeyPatch.context() as patch:
        # Refused requests are kept at most so often; here each of them is looked at.
        patch.setattr(receive, "QUARANTINE_PAUSE", 0.0)
        client = create_app(runtime).test_client()
        # As our own server says of every body; without it, requests take the way through Flask's routes.
        client.environ_base["wsgi.input_terminated"] = "yes"
        yield Door(client, credentials, World(21), url)
    runtime.database.dispose()


def configured(credentials: Credentials, database_url: str, **changes: object) -> Settings:
    """The settings of four sources, each with these changes."""
    made = settings_for(credentials)
    sources = made["sources"]
    assert isinstance(sources, dict)
    blocks = {
        slug: {"slug": slug, **block, "max_body_bytes": LONGEST_BODY if slug != "verifik" else 300_000, **changes}
        for slug, block in sources.items()
    }
    # A limit above 100,000 brackets lets that body in; a small one is for the tests of limits.
    for slug in ("gu1", "yoti"):
        blocks[slug]["max_body_bytes"] = 300_000
    return Settings.model_validate({"database_url": database_url, "sources": blocks})


def migrate(credentials: Credentials, url: str) -> None:
    runtime = Runtime(configured(credentials, url))
    schema.migrate(runtime.database)
    runtime.database.dispose()


def notification(provider: str, external_id: object, event: object) -> bytes:
    """A notification about this id. Escaped as JSON may be, so that any text can be in it."""
    content: dict[str, object] = {
        "persona": {
            "data": {
                "type": "event",
                "id": f"evt_{uuid.uuid4().hex}",
                "attributes": {
                    "name": event,
                    "payload": {"data": {"type": "verification/selfie", "id": external_id}},
                },
            }
        },
        "verifik": {"type": event, "object": {"_id": external_id}},
        "gu1": {"event": event, "payload": {"id": external_id}},
        "yoti": {"session_id": external_id, "topic": event},
    }
    return json.dumps(content[provider]).encode()
