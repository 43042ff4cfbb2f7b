"""Waits until a town is quiet, and gathers the evidence: from its database, its logs and the simulator's own record."""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.chaos.checker import Acknowledged, Evidence, Told, number
from tests.chaos.town import Town, soon
from tests.support.canaries import leaks
from tests.support.evidence import decoded
from web.simulator.notifier import Notifier
from web.simulator.records import Ref

POLL_SECONDS = 0.3

OPEN = """
    SELECT
        (SELECT count(*) FROM resources WHERE due_at IS NOT NULL) AS due,
        (SELECT count(*) FROM attempts WHERE outcome IS NULL) AS under_way,
        (SELECT count(*) FROM events WHERE sequence IS NULL) AS unnumbered,
        (SELECT count(*) FROM events e WHERE NOT EXISTS
            (SELECT FROM event_deliveries d WHERE d.sink = 'log' AND d.sequence = e.sequence)) AS undelivered
"""
NOTES = (
    "SELECT type, data FROM events",
    "SELECT error, detail, request_id FROM attempts WHERE detail IS NOT NULL",
    "SELECT last_error FROM resources WHERE last_error IS NOT NULL",
    "SELECT reason FROM deliveries WHERE reason IS NOT NULL",
    "SELECT reason, details FROM audit_entries",
)
VERSIONS = """
    SELECT v.resource_id, v.number, v.content_sha256, v.read_started_at, r.kind, r.external_id
    FROM versions v JOIN resources r ON r.id = v.resource_id
"""


def open_work(town: Town) -> dict[str, int]:
    """What is not finished yet, counted; empty once it is quiet. While nobody can be asked, that is unfinished too."""
    try:
        [row] = town.rows(OPEN)
    except psycopg.OperationalError:
        return {"unreachable": 1}
    return {name: number(count) for name, count in row.items() if count}


def quiet(town: Town, seconds: float) -> bool:
    """Whether everything is finished within this time."""
    return soon(lambda: not open_work(town), seconds, POLL_SECONDS)


def gather(town: Town, notifier: Notifier) -> Evidence:
    """The evidence. Take it when it is quiet and the processes have ended, so that the logs are whole."""
    world = town.ground.simulator.world
    truths: dict[Ref, dict[str | None, int]] = defaultdict(dict)
    for change in world.changes():
        truths[change.ref][change.truth.digest] = change.truth.revision
    digests = {}
    for row in town.rows("SELECT provider, kind, external_id, document FROM v1_results"):
        ref = Ref(str(row["provider"]), str(row["kind"]), str(row["external_id"]))
        digests[ref] = world.digest(ref.provider, decoded(row["document"]))  # type: ignore[arg-type]
    [unfinished] = town.rows("SELECT count(*) AS n FROM attempts WHERE outcome IS NULL")
    return Evidence(
        acknowledged=list(acknowledged(notifier)),
        truths=truths,
        digests=digests,
        deliveries=frozenset(str(row["id"]) for row in town.rows("SELECT id FROM deliveries")),
        resources=town.rows("SELECT * FROM resources"),
        versions=town.rows(VERSIONS),
        results={
            number(row["resource_id"]): number(row["version"])
            for row in town.rows("SELECT resource_id, version FROM results")
        },
        events=town.rows("SELECT * FROM events"),
        event_deliveries=town.rows("SELECT * FROM event_deliveries"),
        unfinished_attempts=number(unfinished["n"]),
        told=list(told(town.worker_log)),
        leaks=list(leaked(town)),
    )


def acknowledged(notifier: Notifier) -> Iterator[Acknowledged]:
    for receipt in notifier.acknowledged():
        notice = receipt.notice
        delivery = uuid.UUID(json.loads(receipt.answer)["delivery"])
        yield Acknowledged(notice.ref, notice.revision, notice.key, str(delivery))


def told(log: Path) -> Iterator[Told]:
    """What the log sink wrote, in order of writing: all workers append to one file."""
    for line in log.read_text("utf-8", "replace").splitlines():
        if '"verisink.events"' in line:
            # A worker that was killed while it wrote leaves half a line, which nobody could read either.
            with suppress(ValueError):
                entry = json.loads(line)
                # Ids are unique for each source only, so the source is part of whom an event is about.
                subject = entry["subject"] and f"{entry['source']}/{entry['subject']}"
                yield Told(int(entry["sequence"]), entry["id"], entry["event"], subject)


def leaked(town: Town) -> Iterator[str]:
    credentials = town.ground.simulator.credentials
    for log in sorted(town.ground.folder.glob("*.log")):
        yield from (f"{log.name}: {leak}" for leak in leaks(log.read_text("utf-8", "replace"), credentials))
    for statement in NOTES:
        text = "\n".join(json.dumps(row, default=str) for row in town.rows(statement))
        yield from (f"{statement}: {leak}" for leak in leaks(text, credentials))


def deaths(town: Town) -> Counter[str]:
    """How often processes died and were started again, by their names."""
    found: Counter[str] = Counter()
    for log in (town.web_log, town.worker_log):
        for line in log.read_text("utf-8", "replace").splitlines():
            if '"child_died"' in line:
                with suppress(ValueError):
                    found[str(json.loads(line)["child"])] += 1
    return found
