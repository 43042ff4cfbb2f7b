"""What is tagged personal reaches the database, and nothing else: no event, log line, metric, error or Celery argument.

Every document has a canary in place of each value that its provider does not declare plain, and in a new member of each
object. The whole journey is made with it, and all that can go wrong in it.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from tests.flow.conftest import Install
from tests.support import canaries
from tests.support.event_schemas import faults
from tests.support.evidence import Flow, flow
from tests.support.processes import Child, Installation, eventually
from tests.support.services import RedisServer
from tests.support.streams import stream_entries
from tests.support.tap import Tap
from web.simulator.faults import Answer, Faults
from web.simulator.notifications import Notice, compose, sign
from web.simulator.records import Action, Record, Ref
from web.simulator.server import Simulator
from worker.clock import utc_now
from worker.domain.documents import Path
from worker.domain.model import ResourceRef
from worker.domain.states import EventType
from worker.domain.strict_json import Json, member
from worker.providers.registry import providers
from worker.reports.build import time_text

pytestmark = [pytest.mark.flow, pytest.mark.redis]

CANARY = "Quilfeather"
"""It looks like a code, which is the hardest: only where it stands tells that it is a name."""

SENTENCE = f"Zacharias {CANARY} <zacharias@example.com>"
OPERATOR = "Brandywine"
"""What an operator writes: it may be in the audit log, and in no event and no line of a log."""

STREAM = "tests:personal"
KINDS = (
    ("persona", "verification/government-id"),
    ("persona", "verification/selfie"),
    ("persona", "report/watchlist"),
    ("verifik", "app-registration"),
    ("verifik", "document-validation"),
    ("verifik", "biometric-validation"),
    ("gu1", "kyc-validation"),
    ("gu1", "biometric-session"),
    ("gu1", "entity"),
    ("yoti", "session"),
)
STATUS = {
    "persona": ("data", "attributes", "status"),
    "verifik": ("data", "status"),
    "gu1": ("status",),
    "yoti": ("state",),
}
NOTES = (
    "SELECT error, detail, request_id FROM attempts",
    "SELECT park_reason, last_error FROM resources",
    "SELECT state, reason FROM deliveries",
    "SELECT reason, header_names FROM quarantined_deliveries",
    "SELECT * FROM drift_issues",
    "SELECT actor, action FROM audit_entries",
)
COMMANDS = (
    ("replay", "--source", "persona", "--level", "reproject", "--yes"),
    ("status", "--json"),
    ("lanes",),
    ("attempts", "--json"),
)


def plain(ref: Ref) -> tuple[Path, ...]:
    return providers()[ref.provider].paths(ResourceRef(ref.kind, ref.external_id)).plain


def document(running: Flow, record: Record) -> Json:
    """The provider's answer about `record`, with canaries in it."""
    return canaries.planted(running.simulator.world.serve(record), plain(record.ref), CANARY)


def tell(running: Flow, record: Record, *answers: Answer) -> Ref:
    """Notify of `record`, with canaries in the notification; the provider then answers as given, or with canaries."""
    served = answers or (Answer(200, json.dumps(document(running, record)).encode()),)
    running.simulator.faults.script(record.ref.external_id, served)
    notice = compose(running.simulator.world, record)
    send(running, replace(notice, body=json.dumps(named(json.loads(notice.body))).encode()))
    return record.ref


def send(running: Flow, notice: Notice) -> None:
    assert running.notifier.post(sign(running.simulator.credentials, notice)).status_code == 200


def named(value: Json) -> Json:
    """The notification with a canary in a new member of each object."""
    if isinstance(value, dict):
        return {**{name: named(item) for name, item in value.items()}, "brandNew": SENTENCE}
    return [named(item) for item in value] if isinstance(value, list) else value


def change(running: Flow, ref: Ref, action: Action, version: int) -> None:
    tell(running, running.simulator.world.change(ref, action))
    found = running.result(ref, version=version)
    assert CANARY in json.dumps(found["document"]), "the database does hold it"


def make_every_event_of_a_result(running: Flow) -> None:
    """Created, decided, reversed, updated, revised and erased."""
    record = running.simulator.world.create("persona", "inquiry", reference=SENTENCE)
    tell(running, record)
    running.result(record.ref, version=1)
    actions: tuple[Action, ...] = ("approve", "reverse", "update", "review", "redact")
    for version, action in enumerate(actions, start=2):
        change(running, record.ref, action, version)
    assert running.result(record.ref)["stage"] == "erased"


def retrieve_every_kind(running: Flow) -> None:
    world = running.simulator.world
    refs = [world.create(provider, kind, reference=SENTENCE).ref for provider, kind in KINDS]
    for ref in refs:
        tell(running, world.change(ref, "complete" if ref.kind.startswith("report/") else "approve"))
    for ref in refs:
        assert CANARY in json.dumps(running.result(ref)["document"])


def drift(running: Flow) -> None:
    """A person stands where a status belongs."""
    for provider, kind in (("persona", "inquiry"), ("verifik", "app-registration"), ("gu1", "kyc-validation"),
                           ("yoti", "session")):  # fmt: skip
        record = running.simulator.world.create(provider, kind)
        answer = document(running, record)
        *above, last = STATUS[provider]
        place = member(answer, *above) if above else answer
        assert isinstance(place, dict)
        place[last] = SENTENCE
        tell(running, record, Answer(200, json.dumps(answer).encode()))
        assert running.result(record.ref)["stage"] == "unmapped"


def let_calls_fail(running: Flow) -> None:
    """Answers of every kind that quote a person, in body and headers, and calls that end up parked."""
    refusal = json.dumps(
        {"errors": [{"title": CANARY, "details": SENTENCE}], "code": CANARY, "message": SENTENCE, "error": CANARY}
    ).encode()
    headers = {"Request-Id": SENTENCE, "Location": f"https://example.com/{CANARY}", "X-Note": CANARY}
    bodies = (
        f'{{"{CANARY}": 1, "{CANARY}": 2}}', f'{{"a": {CANARY}', f'{{"data": "{CANARY}", "_id": "{CANARY}"}}',
        f'{{"id": "{CANARY}", "session_id": "{CANARY}", "data": {{"_id": "{CANARY}", "id": "{CANARY}"}}}}',
    )  # fmt: skip
    unreadable = [Answer(200, body.encode(), headers) for body in bodies]
    refs = []
    for provider, kind in (("persona", "inquiry"), ("verifik", "app-registration"), ("gu1", "kyc-validation"),
                           ("yoti", "session")):  # fmt: skip
        record = running.simulator.world.create(provider, kind)
        errors = [Answer(302, refusal, headers), Answer(503, refusal, headers), Answer(422, refusal, headers)]
        refs.append(tell(running, record, *errors[:1], *errors[2:]))
        other = running.simulator.world.create(provider, kind)
        tell(running, other, *unreadable, errors[1], Answer(200, b"x", {"Content-Encoding": CANARY}))
        eventually(partial(failed, running, other.ref), "a failed attempt")
    for ref in refs:
        eventually(partial(parked, running, ref), "it is parked")


def failed(running: Flow, ref: Ref) -> bool:
    statement = f"""
        SELECT a.id FROM attempts a JOIN resources r ON r.id = a.resource_id
        WHERE r.external_id = '{ref.external_id}' AND a.outcome = 'failed'
    """  # noqa: S608 - our own ids
    return bool(running.rows(statement))


def parked(running: Flow, ref: Ref) -> bool:
    statement = f"SELECT id FROM resources WHERE external_id = '{ref.external_id}' AND parked_at IS NOT NULL"  # noqa: S608
    return bool(running.rows(statement))


def send_what_nobody_reads(running: Flow) -> None:
    for provider in ("persona", "verifik", "gu1", "yoti"):
        for body in (f'{{"email": "{SENTENCE}", ', f'{{"{CANARY}": 1, "{CANARY}": 2}}', f'{{"data": ["{CANARY}"]}}'):
            send(running, Notice(Ref(provider, "none", "none"), 1, "none", "none", body.encode()))


def hold_and_release(running: Flow) -> None:
    """A refused credential holds one source, and an operator another, who says why."""
    running.simulator.faults.set("gu1", Faults(wrong_credentials=True))
    tell(running, running.simulator.world.create("gu1", "entity"), Answer(401, SENTENCE.encode()))
    eventually(partial(told, running, EventType.HELD, 1), "gu1 is held")
    running.simulator.faults.clear("gu1")
    reason = {"reason": f"{OPERATOR} asked for it"}
    assert running.api.post("/api/v1/sources/yoti/hold", json=reason).status_code == 200
    for source in ("gu1", "yoti"):
        assert running.api.post(f"/api/v1/sources/{source}/release", json=reason).status_code == 200


def expect_in_vain(running: Flow) -> None:
    deadline = time_text(utc_now() + timedelta(seconds=1))
    wanted = {"source": "persona", "kind": "inquiry", "reference": SENTENCE + ".", "deadline": deadline}
    assert running.api.post("/api/v1/expectations", json=wanted).status_code == 201
    eventually(partial(told, running, EventType.OVERDUE, 1), "it is overdue")


def told(running: Flow, event_type: EventType, count: int) -> bool:
    found = running.rows(f"SELECT id FROM v1_events WHERE type = '{event_type}'")  # noqa: S608 - our own types
    return len(found) >= count


def journey(running: Flow) -> None:
    make_every_event_of_a_result(running)
    retrieve_every_kind(running)
    drift(running)
    let_calls_fail(running)
    send_what_nobody_reads(running)
    hold_and_release(running)
    expect_in_vain(running)


def environment(url: str) -> dict[str, str]:
    """A stream for the events, and no pause between two reads of one resource."""
    return {
        "VERISINK_SOURCES__PERSONA__COALESCE_SECONDS": "0",
        "VERISINK_SINKS__STREAM__TYPE": "redis_stream",
        "VERISINK_SINKS__STREAM__URL": url,
        "VERISINK_SINKS__STREAM__STREAM": STREAM,
    }


def what_was_said(running: Flow) -> Iterator[tuple[str, str]]:
    """Everything outside of documents, webhooks and references, with a name."""
    yield "metrics", running.api.get("/metrics").text
    for path in ("events?limit=200", "sources", "lanes", "replays"):
        yield path, running.api.get(f"/api/v1/{path}").text
    for statement in ("SELECT * FROM v1_events", *NOTES):
        yield statement, json.dumps(running.rows(statement), default=str)


def what_commands_say(installation: Installation) -> Iterator[tuple[str, str]]:
    for arguments in COMMANDS:
        child = installation.run(*arguments)
        assert child.process.returncode == 0
        yield " ".join(arguments), child.output + child.log


def as_events(entries: list[dict[str, str]]) -> list[dict[str, Json]]:
    """The entries of the stream as CloudEvents in structured JSON."""
    return [{**entry, "data": json.loads(entry["data"])} for entry in entries]


def assert_events_are_as_published(events: list[dict[str, Json]]) -> None:
    assert {str(event["type"]) for event in events} == set(EventType)
    for event in events:
        assert faults(event) == []
        message = HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())
        assert from_structured_event(message, JSONFormat()).get_id() == event["id"]


def assert_nothing_personal(running: Flow, said: dict[str, str], *children: Child) -> None:
    credentials = running.simulator.credentials
    for child in children:
        said = {**said, f"output of {child.name}": child.output, f"log of {child.name}": child.log}
    found = {name: leaks for name, text in said.items() if (leaks := canaries.leaks(text, credentials, CANARY))}
    assert found == {}
    for name in said:
        if not name.startswith(("status", "sources")):
            assert OPERATOR not in said[name], name


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as own:
        yield own


def test_the_canary_is_in_what_verisink_keeps(simulator: Simulator) -> None:
    """Or its absence elsewhere would mean nothing."""
    for provider, kind in KINDS:
        record = simulator.world.create(provider, kind)
        answer = canaries.planted(simulator.world.serve(record), plain(record.ref), CANARY)
        text = json.dumps(answer)
        assert text.count(CANARY) > 1, kind
        assert canaries.PEOPLE.findall(text) == [], kind


def test_nothing_personal_is_said_by_one_process_tree(
    install: Install, simulator: Simulator, server: RedisServer
) -> None:
    installation = install(log_format="json", log_level="debug")
    child = installation.up(**environment(server.url))
    with flow(simulator, installation, child.url) as running:
        journey(running)
        said = {**dict(what_commands_say(installation)), **dict(what_was_said(running))}
        eventually(lambda: len(stream_entries(server.url, STREAM)) == len(running.rows("SELECT id FROM v1_events")),
                   "every event is in the stream")  # fmt: skip
        events = as_events(stream_entries(server.url, STREAM))
        assert child.stop() == 0
        said["stream"] = json.dumps(events)

        assert_events_are_as_published(events)
        assert_nothing_personal(running, said, child)
        # What was meant to go wrong did.
        assert "***" in said["SELECT * FROM drift_issues"]
        assert "unreadable" in said["SELECT state, reason FROM deliveries"]
        assert '"rejected"' in said["attempts --json"]


@pytest.mark.postgres
def test_nothing_personal_is_said_by_receivers_and_workers(
    install: Install, simulator: Simulator, server: RedisServer, postgres_url: str
) -> None:
    installation = install(database_url=postgres_url, broker_url=server.url, log_format="console", log_level="debug")
    assert installation.run("migrate").process.returncode == 0
    web = installation.web(**environment(server.url))
    with Tap(server.url) as tap, flow(simulator, installation, web.url) as running:
        worker = installation.start("worker", **environment(server.url))
        journey(running)
        said = dict(what_was_said(running))
        events = eventually(
            lambda: (
                (found := as_events(stream_entries(server.url, STREAM)))
                and len(found) == len(running.rows("SELECT id FROM v1_events"))
                and found
            ),
            "every event is in the stream",
        )
        assert isinstance(events, list)
        assert [child.stop() for child in (worker, web)] == [0, 0]
        said |= {"Redis": tap.commands, "messages": "\n".join(tap.messages)}

        assert_events_are_as_published(events)
        assert_nothing_personal(running, said, web, worker)
        assert {json.dumps(json.loads(message)[0]) for message in tap.messages} >= {'["persona"]', '["gu1"]'}
