"""What must be true of the results database after whatever happened, compared with what the simulator knows."""

import json
import sqlite3
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
from psycopg.rows import dict_row

from tests.support.processes import API_TOKEN, PATIENCE_SECONDS, Installation, eventually
from web.simulator.notifications import Flaw, compose
from web.simulator.notifier import PERSONA_BACKOFF, Notifier, Receipt
from web.simulator.records import Record, Ref
from web.simulator.server import Simulator

Row = dict[str, object]

PATIENT = (*PERSONA_BACKOFF, *([3.0] * 8))
BACKOFF: dict[str, tuple[float, ...]] = {name: PATIENT for name in ("persona", "verifik", "gu1", "yoti")}
"""Every provider sends again here, for half a minute, so that a restart on a busy machine leaves nothing untold."""

OPEN_WORK = """
    SELECT kind, external_id, due_at, park_reason, last_error FROM resources
    WHERE due_at IS NOT NULL OR parked_at IS NOT NULL
"""
NEIGHBOURS = "SELECT resource_id, number, content_sha256 FROM versions ORDER BY resource_id, number"


def rows(database_url: str, statement: str) -> list[Row]:
    """The rows of a query, read beside Verisink by a driver of our own."""
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True, connect_timeout=5, row_factory=dict_row) as database:
        return database.execute(statement.encode()).fetchall()


def decoded(value: object) -> dict[str, object]:
    """A JSON column: text in SQLite, a value already in PostgreSQL."""
    found = json.loads(value) if isinstance(value, str) else value
    assert isinstance(found, dict)
    return found


@dataclass(frozen=True, slots=True)
class Flow:
    """A running Verisink, the providers beside it, and the API to ask what became of things."""

    simulator: Simulator
    installation: Installation
    notifier: Notifier
    api: httpx.Client

    def tell(self, record: Record, event: str | None = None, flaw: Flaw | None = None) -> Receipt:
        """Send the notification of what `record` is now."""
        return self.notifier.send(compose(self.simulator.world, record, event), flaw=flaw)

    def result(self, ref: Ref, seconds: float = PATIENCE_SECONDS, **wanted: object) -> Row:
        """The stored result, once it says what is wanted."""
        path = f"/api/v1/results/{ref.provider}/{ref.kind}/{ref.external_id}"

        def look() -> Row | None:
            answer = self.api.get(path)
            found: Row = answer.json() if answer.status_code == 200 else {}
            return found if found and wanted.items() <= found.items() else None

        return eventually(look, f"{ref.kind} {ref.external_id} with {wanted}", seconds)

    def rows(self, statement: str) -> list[Row]:
        return rows(self.installation.database_url, statement)

    def settled(self, seconds: float = 30.0) -> None:
        """Wait until nothing is due, nothing is parked and every event has its number."""
        eventually(lambda: not self.rows(OPEN_WORK), "no open work", seconds)
        eventually(lambda: not self.rows("SELECT id FROM events WHERE sequence IS NULL"), "events are numbered")

    def documents(self) -> dict[Ref, dict[str, object]]:
        found = self.rows("SELECT provider, kind, external_id, document FROM v1_results")
        return {
            Ref(str(row["provider"]), str(row["kind"]), str(row["external_id"])): decoded(row["document"])
            for row in found
        }


@contextmanager
def flow(simulator: Simulator, installation: Installation, url: str, **notifier: float) -> Iterator[Flow]:
    """Clients for a Verisink that runs already."""
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    threads = int(notifier.get("threads", 8))
    with (
        Notifier(url, simulator.credentials, backoff=BACKOFF, threads=threads, timeout=10.0) as sender,
        httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10) as api,
    ):
        yield Flow(simulator, installation, sender, api)


def assert_nothing_lost(running: Flow) -> None:
    """Everything acknowledged is recorded and has led to a document at least as new; nothing is there twice."""
    running.settled()
    assert_deliveries_recorded(running)
    assert_documents_true(running)
    assert_events_once(running.rows("SELECT * FROM v1_events ORDER BY sequence"))
    assert_versions_distinct(running.rows(NEIGHBOURS))


def assert_deliveries_recorded(running: Flow) -> None:
    recorded = {uuid.UUID(str(row["id"])) for row in running.rows("SELECT id FROM deliveries")}
    acknowledged = {uuid.UUID(json.loads(receipt.answer)["delivery"]) for receipt in running.notifier.acknowledged()}
    assert acknowledged
    assert acknowledged - recorded == set()


def assert_documents_true(running: Flow) -> None:
    """Each stored document is the truth of a revision that is not older than the newest acknowledged one."""
    world, documents = running.simulator.world, running.documents()
    truths: Mapping[Ref, dict[str | None, int]] = defaultdict(dict)
    for change in world.changes():
        truths[change.ref][change.truth.digest] = change.truth.revision
    told = running.notifier.acknowledged_revisions()
    assert told
    assert set(told) - set(documents) == set()
    behind = []
    for ref, revision in told.items():
        found = truths[ref].get(world.digest(ref.provider, documents[ref]))  # type: ignore[arg-type]
        if found is None or found < revision:
            behind.append((ref, revision, found))
    assert behind == []


def assert_events_once(events: Sequence[Row]) -> None:
    names = Counter(
        (event["source"], event["kind"], event["external_id"], event["version"], event["type"])
        for event in events
        if event["version"] is not None
    )
    assert [name for name, count in names.items() if count > 1] == []
    assert len({event["id"] for event in events}) == len(events)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))


def assert_versions_distinct(versions: Sequence[Row]) -> None:
    """Versions count from 1 without gaps, and no version repeats the one before it."""
    before: dict[object, Row] = {}
    for version in versions:
        last = before.get(version["resource_id"], {"number": 0, "content_sha256": None})
        assert version["number"] == int(str(last["number"])) + 1
        assert version["content_sha256"] != last["content_sha256"]
        before[version["resource_id"]] = version
