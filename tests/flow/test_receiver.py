"""The receiver against everything that may come in: who is let in, what is kept of whom, and that nothing upsets it.

The real application on a real SQLite file, called as a WSGI server calls it.
"""

import base64
import gc
import gzip
import hashlib
import hmac
import io
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.door import (
    EVENTS,
    GOOD_IDS,
    LONGEST_BODY,
    PERSONA_ID,
    PROVIDERS,
    Door,
    configured,
    migrate,
    notification,
    opened,
)
from web.app import create_app
from web.http_server import serve
from web.serving import body_limit
from web.simulator.credentials import Credentials
from web.simulator.notifications import Flaw
from web.supervising import address
from worker.providers.base import InboundRequest
from worker.runtime import Runtime
from worker.store import inbox, schema

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def template(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, which each test has a copy of: an equal body in another test would make a duplicate."""
    path = tmp_path_factory.mktemp("template") / "verisink.db"
    migrate(credentials, f"sqlite:///{path}")
    return path


@pytest.fixture
def door(credentials: Credentials, template: Path, tmp_path: Path) -> Iterator[Door]:
    with opened(credentials, f"sqlite:///{shutil.copy(template, tmp_path)}") as opened_door:
        yield opened_door


# Every answer of the interface.


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_genuine_notification_is_accepted_once(door: Door, provider: str) -> None:
    request = door.genuine(provider)
    first, second = door.post(request), door.post(request)

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json is not None
    assert second.json == {"status": "duplicate", "delivery": first.json["delivery"]}
    delivery = door.delivery(first.json["delivery"])
    assert (delivery["state"], delivery["repeats"], delivery["body"]) == ("accepted", 1, request.body)
    kept = json.loads(str(delivery["headers"]))
    assert "authorization" not in kept
    assert kept["user-agent"] == f"simulated-{provider}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/webhooks/nobody", 404),
        ("/webhooks/nobody/token", 404),
        ("/webhooks/persona/token", 404),
        ("/webhooks/verifik/one/two", 404),
        ("/webhooks/", 404),
        ("/webhooks", 404),
        ("//webhooks/persona", 404),
        ("/webhooks/%2e%2e/persona", 404),
        ("/webhooks/persona%2f", 404),
        ("/webhooks/%00", 404),
        ("/webhooks/%ff%fe", 404),
        ("/webhooks/" + "x" * 10_000, 404),
        ("/webhooks/persona", 401),
        ("/webhooks/verifik", 401),
        ("/webhooks/gu1", 401),
        ("/webhooks/yoti", 401),
    ],
)
def test_strangers_are_refused(door: Door, path: str, status: int) -> None:
    before = door.deliveries()

    assert door.client.post(path, data=b"{}").status_code == status
    assert door.deliveries() == before


@pytest.mark.parametrize("path", [*(f"/webhooks/{name}" for name in PROVIDERS), "/webhooks/nobody", "/webhooks/gu1/"])
@pytest.mark.parametrize("flaw", [None, *Flaw])
@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD"])
def test_both_ways_to_the_receiver_answer_alike(door: Door, path: str, flaw: Flaw | None, method: str) -> None:
    """Flask's routes, and the short way past them."""
    request = door.genuine("persona", flaw) if "persona" in path else door.genuine("yoti", flaw)
    door.post(request)
    # An offer that is not taken up.
    headers = {**request.headers, "Upgrade": "websocket", "Connection": "upgrade"} if flaw else request.headers

    def answer() -> tuple[int, bytes, list[tuple[str, str]]]:
        found = door.client.open(path, method=method, data=request.body, headers=headers)
        return found.status_code, found.data, sorted(found.headers)

    short = answer()
    del door.client.environ_base["wsgi.input_terminated"]
    assert answer() == short


def test_nothing_is_left_of_a_refused_request_that_only_a_search_for_garbage_would_find(door: Door) -> None:
    """Anybody can send these, and long ones."""
    request = door.genuine("persona", Flaw.WRONG_SIGNATURE)
    assert door.post(request).status_code == 401
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            assert door.post(request).status_code == 401
        kept = sum(isinstance(item, InboundRequest) for item in gc.get_objects())
    finally:
        gc.enable()
    assert kept <= 1, "the last one may be under way still"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_are_not_allowed(door: Door, method: str) -> None:
    answer = door.client.open("/webhooks/persona", method=method)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_the_server_and_the_receiver_agree_on_the_limit(credentials: Credentials, template: Path) -> None:
    """A path's limit holds to the byte, whether the length is announced or not."""
    sources = configured(credentials, f"sqlite:///{template}")
    runtime = Runtime(sources, ring_with=lambda _source: None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = serve(create_app(runtime), listener=listener, threads=2, body_limit=body_limit(sources))
    thread = threading.Thread(target=server.run)
    thread.start()
    with httpx.Client(base_url=address(listener), trust_env=False, timeout=10) as client:
        for length, status in ((LONGEST_BODY, 401), (LONGEST_BODY + 1, 413), (LONGEST_BODY * 100, 413)):
            body = b"x" * length
            assert client.post("/webhooks/persona", content=body).status_code == status
            assert client.post("/webhooks/persona", content=iter([body])).status_code == status
            assert client.post("/webhooks/verifik/x", content=body).status_code == (413 if length > 300_000 else 401)
    server.stop()
    thread.join(10)
    runtime.database.dispose()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_a_secret_everybody_is_refused(credentials: Credentials, door: Door, provider: str) -> None:
    keys = {"persona": "webhook_secrets", "verifik": "webhook_tokens", "gu1": "webhook_secrets"}
    key = keys.get(provider, "notification_tokens")
    complete = configured(credentials, door.database_url)
    source = complete.sources[provider].model_copy(update={key: ()})
    runtime = Runtime(complete.model_copy(update={"sources": {provider: source}}))

    answer = create_app(runtime).test_client().post(door.genuine(provider).path, data=b"{}")
    runtime.database.dispose()

    assert door.refused(answer)["reason"] == f"no {key} configured for this source"


# Signatures.


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("flaw", [Flaw.WRONG_SIGNATURE, Flaw.NO_SIGNATURE])
def test_wrong_and_missing_signatures_are_quarantined(door: Door, provider: str, flaw: Flaw) -> None:
    request, before = door.genuine(provider, flaw), door.deliveries()

    row = door.refused(door.post(request, X_Canary="canary-value"))

    assert door.deliveries() == before
    assert (row["source"], row["body_bytes"]) == (provider, len(request.body))
    assert row["body_sha256"] == hashlib.sha256(request.body).hexdigest()
    assert request.body.startswith(row["body_start"])  # type: ignore[arg-type]
    names = json.loads(str(row["header_names"]))
    assert {"content-type", "x-canary"} <= set(names)
    assert "canary-value" not in str(row)
    for value in request.headers.values():
        assert value not in (row["reason"], *names)


def test_the_body_that_was_signed_is_the_one_that_counts(door: Door) -> None:
    for provider in ("persona", "gu1"):
        door.refused(door.post(door.genuine(provider, Flaw.TAMPERED_BODY)))


@pytest.mark.parametrize("seconds", [-86_400, -310, 310, 86_400])
def test_persona_signatures_age(door: Door, seconds: int) -> None:
    answer = door.post(door.genuine("persona", now=int(time.time()) + seconds))

    assert "beyond tolerance_seconds" in str(door.refused(answer)["reason"])


@pytest.mark.parametrize("seconds", [-290, 290])
def test_persona_clocks_may_differ_a_little(door: Door, seconds: int) -> None:
    assert door.post(door.genuine("persona", now=int(time.time()) + seconds)).status_code == 200


def test_persona_rotates_its_secret(door: Door) -> None:
    assert door.post(door.genuine("persona", Flaw.ROTATING)).status_code == 200
    request = door.genuine("persona")
    second = persona_signature(request.body, door.credentials.persona_webhook_secrets[1])
    assert door.post(request, Persona_Signature=second).status_code == 200
    unknown = persona_signature(request.body, "unknown")
    assert door.post(request, Persona_Signature=f"{unknown} {second}").status_code == 200
    assert door.post(request, Persona_Signature=f"{unknown} {unknown}").status_code == 401


def persona_signature(body: bytes, secret: str) -> str:
    now = int(time.time())
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


@pytest.mark.parametrize("header", [
    "", " ", ",", "=", "t=", "t=,v1=", "v1=" + "0" * 64, "t=1", "t=1,v1=", "t=x,v1=" + "0" * 64,
    "t=1,t=2,v1=" + "0" * 64, "t=-1,v1=" + "0" * 64, "t=1e9,v1=" + "0" * 64, "t=99999999999999999999,v1=" + "0" * 64,
    "t=1,v1=" + "g" * 64, "t=1,v1=" + "0" * 63, "t=1,v1=" + "\u00e9" * 64, "t=\u0661,v1=" + "0" * 64,
    "t=1,v1=" + "0" * 64 + " " * 2_000, "x" * 10_000, "sha256=" + "0" * 64, "Basic !", "\u00ff\u0080",
])  # fmt: skip
def test_garbage_in_place_of_a_signature(door: Door, header: str) -> None:
    body = b"{}"
    for provider, name in (
        ("persona", "Persona-Signature"),
        ("gu1", "X-Webhook-Signature"),
        ("yoti", "Authorization"),
    ):
        # WSGI hands headers over as Latin-1, whatever their bytes mean.
        text = header.encode().decode("latin-1")
        answer = door.client.post(f"/webhooks/{provider}", data=body, environ_overrides={cgi_name(name): text})
        reason = str(door.refused(answer)["reason"])
        assert not header.strip() or len(header) < 3 or header not in reason
    assert door.client.post("/webhooks/verifik/" + header.replace("/", ""), data=body).status_code in (401, 404)


def cgi_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def test_encodings_of_gu1_signatures(door: Door) -> None:
    request = door.genuine("gu1")
    digest = hmac.new(door.credentials.gu1_webhook_secret.encode(), request.body, hashlib.sha256)
    for good in (digest.hexdigest(), digest.hexdigest().upper(), "sha256=" + digest.hexdigest()):
        assert door.post(request, X_Webhook_Signature=good).status_code == 200
    for bad in (base64.b64encode(digest.digest()).decode(), digest.hexdigest()[:-1], "sha256=sha256=" + "0" * 64):
        assert door.post(request, X_Webhook_Signature=bad).status_code == 401


def test_yoti_tokens_come_in_the_configured_scheme_only(door: Door) -> None:
    token, request = door.credentials.yoti_notification_token, door.genuine("yoti")
    encoded = base64.b64encode(token.encode()).decode()
    for bad in (f"Bearer {token}", token, encoded, f"basic {encoded}", f"Basic {encoded}=", f"Basic  {encoded}"):
        assert door.post(request, Authorization=bad).status_code == 401


# Length.


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
"""How a server hands over a body without a length."""


class Counted(io.BytesIO):
    """A body that tells how much of it was read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


def test_a_body_over_the_limit_is_refused_by_its_announced_length(door: Door) -> None:
    body = Counted(b"x" * 100_000)

    answer = door.client.post("/webhooks/persona", input_stream=body)

    assert (answer.status_code, body.taken) == (413, 0)


def test_a_body_over_the_limit_without_a_length_is_not_read_whole(door: Door) -> None:
    body = Counted(b"x" * 100_000)

    answer = door.client.post("/webhooks/persona", input_stream=body, environ_overrides=CHUNKED)

    assert (answer.status_code, body.taken) == (413, LONGEST_BODY + 1)


def test_the_limit_itself_is_allowed(door: Door) -> None:
    body = b'{"padding":"%s"}' % (b"x" * (LONGEST_BODY - len(b'{"padding":""}')))

    assert door.send("persona", body)[0] == "unreadable"
    assert door.post(door.request("persona", body + b" ")).status_code == 413


def test_a_body_shorter_than_announced_is_refused(door: Door) -> None:
    request = door.genuine("verifik")
    answer = door.client.post(request.path, data=b"{}", environ_overrides={"CONTENT_LENGTH": "100"})

    assert answer.status_code == 400


# Content.

UNREADABLE = {
    "empty": b"",
    "broken": b'{"data": {',
    "no JSON": b"hello",
    "two values": b"{} {}",
    "nested deep": b"[" * 100_000,
    "nested deep in objects": b'{"a":' * 40_000,
    "duplicate keys": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "huge float": b'{"a": 1e999}',
    "huge integer": b'{"a": ' + b"9" * 3_900 + b"}",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "raw NUL": b'{"a": "\0"}',
    "only NUL": b"\0" * 100,
    "null": b"null",
    "list": b"[]",
    "text": b'"text"',
    "nothing in it": b"{}",
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_kept_for_people(door: Door, provider: str, name: str) -> None:
    body = UNREADABLE[name]
    if len(body) > LONGEST_BODY and provider == "persona":
        assert door.post(door.request(provider, body)).status_code == 413
        return
    status, delivery = door.send(provider, body)

    nothing_to_do = provider == "verifik" and name == "nothing in it"
    assert status == delivery["state"] == ("ignored" if nothing_to_do else "unreadable")
    assert delivery["reason"]
    assert door.send(provider, body)[0] == "duplicate"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_compressed_body_is_kept_and_not_unpacked(door: Door, provider: str) -> None:
    body = gzip.compress(door.genuine(provider).body)

    status, delivery = door.send(provider, body, Content_Encoding="gzip")

    assert status == "unreadable"
    assert "compressed" in str(delivery["reason"])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "é", ""]
)
def test_the_content_type_does_not_matter(door: Door, provider: str, content_type: str) -> None:
    request = door.genuine(provider)

    answer = door.post(replace(request, headers={**request.headers, "Content-Type": content_type}))

    assert answer.json is not None
    assert answer.json["status"] == "accepted"


BAD_IDS = {
    "slash": "../accounts", "dots": "..", "dot": "a.b", "percent": "a%2fb", "control": "a\r\nX-Y: b", "NUL": "a\0b",
    "surrogate": "a\ud800", "long": "a" * 10_000, "query": "a?b=c", "empty": "", "space": "a b", "number": 7,
    "list": ["a"], "object": {"a": 1}, "null": None, "wide digit": "\u0661\u0662", "truth": True,
}  # fmt: skip


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", BAD_IDS)
def test_an_id_that_could_steer_a_path_names_nothing(door: Door, provider: str, name: str) -> None:
    body = notification(provider, BAD_IDS[name], EVENTS[provider])
    known = door.resources()
    if len(body) > LONGEST_BODY and provider == "persona":
        assert door.post(door.request(provider, body)).status_code == 413
        return

    assert door.send(provider, body)[0] == "unreadable"
    assert door.resources() == known


@pytest.mark.parametrize("event_id", ["", "evt_", "evt_" + "a" * 200, "evt_a/b", "evt_\0", 7, None, "inq_abc"])
def test_a_persona_event_needs_its_id(door: Door, event_id: object) -> None:
    content = json.loads(notification("persona", PERSONA_ID, EVENTS["persona"]))
    content["data"]["id"] = event_id

    assert door.send("persona", json.dumps(content).encode())[0] == "unreadable"


@pytest.mark.parametrize(
    ("provider", "status"), [("persona", "accepted"), ("verifik", "ignored"), ("gu1", "ignored"), ("yoti", "accepted")]
)
@pytest.mark.parametrize("event", ["tomorrow.invented", "a\0b", "\ud800", "x" * 3_000, "../..", "\r\nX: y"])
def test_unknown_events_are_recorded(door: Door, provider: str, status: str, event: str) -> None:
    body = notification(provider, GOOD_IDS[provider], event)

    found, delivery = door.send(provider, body)

    assert found == delivery["state"] == status
    expected = event.lower() if provider == "yoti" else event
    assert delivery["event_type"] == expected.replace("\0", "\ufffd").replace("\ud800", "\ufffd")


def test_an_unknown_kind_of_persona_resource_is_recorded(door: Door) -> None:
    content = json.loads(notification("persona", PERSONA_ID, "thing.made"))
    content["data"]["attributes"]["payload"]["data"]["type"] = "../../thing"

    status, delivery = door.send("persona", json.dumps(content).encode())

    assert status == "ignored"
    assert "thing" not in str(delivery["reason"])


# Our own trouble, and many at once.


def test_a_database_that_is_away_is_our_trouble(credentials: Credentials, door: Door, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    url = f"sqlite:///{folder / 'verisink.db'}"
    runtime = Runtime(configured(credentials, url), ring_with=lambda _source: None)
    away = replace(door, client=create_app(runtime).test_client(), database_url=url)
    for provider in PROVIDERS:
        answer = away.post(away.genuine(provider))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert away.post(away.genuine(provider, Flaw.WRONG_SIGNATURE)).status_code == 401
    assert away.client.get("/readyz").status_code == 503
    assert away.client.get("/livez").status_code == 200

    folder.mkdir()
    schema.migrate(runtime.database)

    assert away.post(away.genuine("persona")).status_code == 200
    assert away.client.get("/readyz").status_code == 200
    runtime.database.dispose()


def test_a_database_without_its_tables_is_our_trouble(credentials: Credentials, door: Door, tmp_path: Path) -> None:
    runtime = Runtime(configured(credentials, f"sqlite:///{tmp_path / 'empty.db'}"), ring_with=lambda _source: None)
    answer = create_app(runtime).test_client().post(door.genuine("verifik").path, data=b"{}")
    runtime.database.dispose()

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_many_at_once_make_one_delivery_of_one_event(door: Door) -> None:
    request, answers = door.genuine("persona"), []
    app = door.client.application

    def post() -> None:
        answers.append(app.test_client().post(request.path, data=request.body, headers=request.headers).json)

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer["status"] for answer in answers if answer) == ["accepted"] + ["duplicate"] * 19
    [delivery_id] = {answer["delivery"] for answer in answers if answer}
    assert door.delivery(delivery_id)["repeats"] == 19


def test_quarantine_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "QUARANTINE_ROWS", 5)
    for _ in range(8):
        door.refused(door.post(door.genuine("gu1", Flaw.WRONG_SIGNATURE)))

    assert len([row for row in door.quarantined() if row["source"] == "gu1"]) <= 5
