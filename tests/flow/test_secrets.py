"""No secret and no personal datum leaves the database: not by a log line, an event, a metric, an error or a nudge.

Verisink runs at log level debug, and everything goes wrong that can be made to, with canaries in it.
"""

import base64
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from tests.flow.conftest import Install
from tests.support import canaries
from tests.support.evidence import Flow, flow
from tests.support.processes import Child, eventually
from tests.support.services import redis_client
from web.simulator.credentials import Credentials
from web.simulator.faults import Answer, Faults
from web.simulator.notifications import Flaw, Notice, compose, sign
from web.simulator.records import Record, Ref
from web.simulator.server import Simulator

pytestmark = pytest.mark.flow

CANARY = "canary-9f31c7"
PERSON = "Zacharias.Quilfeather@example.com"
KINDS = (
    ("persona", "verification/government-id"),
    ("persona", "inquiry"),
    ("verifik", "document-validation"),
    ("verifik", "app-registration"),
    ("gu1", "kyc-validation"),
    ("yoti", "session"),
)


def leaks(text: str, credentials: Credentials) -> list[str]:
    """What must not be in `text`, and is: what must never be anywhere, and what these tests put into requests."""
    return canaries.leaks(text, credentials, CANARY, "Quilfeather")


def test_the_canaries_would_be_found(simulator: Simulator) -> None:
    """They are in what Verisink holds, so a leak of it would show."""
    for provider, kind in KINDS:
        record = approved(simulator, provider, kind)
        if kind not in ("inquiry", "session"):
            assert leaks(json.dumps(simulator.world.serve(record)), simulator.credentials), kind
    assert leaks(f"token {simulator.credentials.persona_api_key}", simulator.credentials)
    assert leaks("verification.result.created ver_Luzx X1234567 amara", simulator.credentials) == []


def approved(simulator: Simulator, provider: str, kind: str) -> Record:
    ref = simulator.world.create(provider, kind, reference="customer-77").ref
    return simulator.world.change(ref, "approve")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_leaks_whatever_goes_wrong(install: Install, simulator: Simulator, log_format: str) -> None:
    installation = install(log_format=log_format, log_level="debug")
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        refs = [tell(running, provider, kind) for provider, kind in KINDS]
        for ref in refs:
            running.result(ref, stage="decided")
        refuse_strangers(running)
        send_what_nobody_reads(running)
        if log_format == "json":
            # These are written down in the database, where the format of the log makes no difference.
            let_providers_fail(running)
        let_the_database_fail(running, child)
        metrics = running.api.get("/metrics").text
        told = [json.dumps(row, default=str) for row in running.rows("SELECT * FROM v1_events")]
        told += notes(running)
        listed = running.api.get("/api/v1/events", params={"limit": 200}).text
    assert child.stop() == 0

    credentials = simulator.credentials
    assert len(told) > len(refs)
    for text in (metrics, listed, *told):
        assert leaks(text, credentials) == []
    assert leaks(child.output, credentials) == []
    assert leaks(child.log, credentials) == []
    # What was meant to go wrong did, and was logged.
    for event in ("delivery_refused", "write_bug", "request_failed", "settings"):
        assert event in child.log


def tell(running: Flow, provider: str, kind: str) -> Ref:
    record = approved(running.simulator, provider, kind)
    assert running.tell(record).status == 200
    return record.ref


def notes(running: Flow) -> Iterator[str]:
    """What Verisink wrote down about its own work."""
    for statement in (
        "SELECT error, detail, request_id FROM attempts",
        "SELECT park_reason, last_error FROM resources",
        "SELECT state, reason FROM deliveries",
        "SELECT reason, header_names FROM quarantined_deliveries",
        "SELECT * FROM audit_entries",
        "SELECT * FROM source_states",
    ):
        for row in running.rows(statement):
            yield json.dumps(row, default=str)


def refuse_strangers(running: Flow) -> None:
    """Requests that prove nothing, with canaries in path, header and body."""
    body = json.dumps({"email": PERSON, "note": CANARY}).encode()
    headers = {"X-Canary": CANARY, "Authorization": f"Basic {CANARY}", "Persona-Signature": f"t=1,v1={CANARY}"}
    for path in ("/webhooks/persona", f"/webhooks/verifik/{CANARY}", f"/webhooks/{CANARY}", f"/{CANARY}?x={CANARY}"):
        assert running.api.post(path, content=body, headers=headers).status_code in (401, 404)
    for provider, kind in KINDS:
        assert running.tell(approved(running.simulator, provider, kind), flaw=Flaw.WRONG_SIGNATURE).status == 401
    for query in (f"/api/v1/results?kind={CANARY}&limit={CANARY}", f"/api/v1/results/persona/{CANARY}!/{PERSON}"):
        assert running.api.get(query).status_code in (400, 404, 422)
    assert running.api.get("/api/v1/results", headers={"Authorization": f"Bearer {CANARY}"}).status_code == 401
    for raw in (
        f"GET /{CANARY} HTTP/9.9\r\n{CANARY}\r\n\r\n",
        f"GET http://[{CANARY} HTTP/1.1\r\n\r\n",
        f"POST /webhooks/verifik/{CANARY} HTTP/1.1\r\nContent-Length: {CANARY}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", running.installation.port), timeout=5) as sock:
            sock.sendall(raw.encode())
            assert b" 400 " in sock.recv(4096)


def send_what_nobody_reads(running: Flow) -> None:
    """Authentic bodies that make no sense."""
    for provider in ("persona", "verifik", "gu1", "yoti"):
        for body in (f'{{"email": "{PERSON}", ', f'{{"type": "{CANARY}", "event": "{PERSON}", "data": ["{PERSON}"]}}'):
            notice = Notice(Ref(provider, "none", "none"), 1, "none", "none", body.encode())
            assert running.notifier.post(sign(running.simulator.credentials, notice)).status_code == 200


def let_providers_fail(running: Flow) -> None:
    """Answers that are refusals, redirects, or not what was asked for."""
    person = json.dumps({"data": {"type": "inquiry", "id": "inq_other", "attributes": {"name-first": PERSON}}}).encode()
    refusal = json.dumps({"errors": [{"title": CANARY, "details": PERSON}], "code": CANARY, "message": PERSON}).encode()
    location = {"Location": f"https://example.com/{CANARY}?token={CANARY}"}
    scripts = (
        [Answer(200, person), Answer(200, f'{{"a": "{PERSON}", "a": 1}}'.encode()), Answer(200, PERSON.encode())],
        [Answer(302, b"", location), Answer(422, refusal)],
        [Answer(500, refusal), Answer(400, refusal)],
    )
    refs = []
    for script in scripts:
        record = approved(running.simulator, "persona", "inquiry")
        running.simulator.faults.script(record.ref.external_id, script)
        assert running.tell(record).status == 200
        refs.append(record.ref)
    for faults in (Faults(truncated=True), Faults(html=True)):
        running.simulator.faults.set("gu1", faults)
        ref = tell(running, "gu1", "kyc-validation")
        eventually(partial(tried, running, ref), "a failed attempt")
        running.simulator.faults.clear("gu1")
        running.result(ref)
    for ref in refs:
        eventually(partial(tried, running, ref), "a failed attempt")


def tried(running: Flow, ref: Ref) -> bool:
    statement = f"""
        SELECT a.id FROM attempts a JOIN resources r ON r.id = a.resource_id
        WHERE r.external_id = '{ref.external_id}' AND a.outcome = 'failed'
    """  # noqa: S608 - our own ids
    return bool(running.rows(statement))


def let_the_database_fail(running: Flow, child: Child) -> None:
    """Statements that are refused while they carry a document, and a notification."""
    path = Path(running.installation.database_url.removeprefix("sqlite:///"))
    for table, event in (("version_bodies", "write_bug"), ("result_documents", "write_bug")):
        with refusing(path, table):
            record = approved(running.simulator, "persona", "verification/government-id")
            assert running.tell(record).status == 200
            eventually(partial(is_logged, child, event), event)
    with refusing(path, "delivery_bodies"):
        notice = compose(running.simulator.world, approved(running.simulator, "verifik", "app-registration"))
        answer = running.notifier.post(sign(running.simulator.credentials, notice))
        assert answer.status_code == 503
        assert leaks(answer.text, running.simulator.credentials) == []


def is_logged(child: Child, event: str) -> bool:
    return event in child.log


class refusing:
    """While this lasts, the database refuses rows for a table."""

    def __init__(self, path: Path, table: str) -> None:
        self._path, self._table = path, table

    def __enter__(self) -> None:
        self._execute(
            f"CREATE TRIGGER provoked BEFORE INSERT ON {self._table} BEGIN SELECT RAISE(ABORT, 'provoked'); END"
        )

    def __exit__(self, *_: object) -> None:
        self._execute("DROP TRIGGER provoked")

    def _execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as connection:
            connection.execute(statement)


@pytest.mark.redis
def test_a_nudge_carries_the_name_of_a_source_and_nothing_else(
    install: Install, simulator: Simulator, redis_url: str
) -> None:
    installation = install(broker_url=redis_url)
    assert installation.run("migrate").process.returncode == 0
    child = installation.web()
    with flow(simulator, installation, child.url) as running, redis_client(redis_url) as client:
        for provider, kind in KINDS:
            tell(running, provider, kind)
        # Nobody works here, so the nudges stay where they are: one for each source at least.
        bodies = eventually(partial(nudges, client), "nudges")
        kept = [str(client.dump(key)) for key in client.scan_iter()]

    assert {json.dumps(arguments) for arguments, *_ in bodies} == {
        '["persona"]', '["verifik"]', '["gu1"]', '["yoti"]',
    }  # fmt: skip
    assert all(keywords == {} for _, keywords, _ in bodies)
    for text in (*kept, *map(str, bodies)):
        assert leaks(text, simulator.credentials) == []


def nudges(client: Redis) -> list[list[object]] | None:
    """The bodies of the waiting messages, once there is one for each source."""
    messages = [json.loads(message) for message in cast("list[bytes]", client.lrange("verisink", 0, -1))]
    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    return bodies if len({str(arguments) for arguments, *_ in bodies}) == 4 else None


MISTAKES = {
    "VERISINK_DATABASE_URL": f"mysql://user:{CANARY}@localhost/db",
    "VERISINK_BROKER_URL": f"http://:{CANARY}@localhost",
    "VERISINK_API_TOKENS": CANARY,
    "VERISINK_SOURCES__GU1__BASE_URL": f"https://user:{CANARY}@example.com",
    "VERISINK_SOURCES__GU1__WEBHOOK_SECRETS": f'["{CANARY}", ""]',
    "VERISINK_SOURCES__PERSONA__WEBHOOK_TOKENS": CANARY,
    "VERISINK_SOURCES__YOTI__SDK_ID": f"{CANARY} !",
}


@pytest.mark.parametrize(
    "environ",
    [
        MISTAKES,
        {"VERISINK_API_TOKENS": f"name:sha256:{CANARY}"},
        {"VERISINK_DATABASE_URL": f"postgresql://user:{CANARY}@127.0.0.1:1/db"},
    ],
    ids=["many mistakes", "a digest that is none", "a database that is away"],
)
def test_a_refused_start_quotes_no_secret(install: Install, environ: dict[str, str]) -> None:
    child = install(log_level="debug").run("up", **environ)

    assert child.process.returncode == 1
    assert "Traceback" not in child.log
    assert CANARY not in child.log + child.output
