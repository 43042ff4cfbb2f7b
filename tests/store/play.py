"""What the tests of store and pipeline arrange with, in the words of the application, and how they look at rows."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Row, Table, select, update

from tests.support.writing import write_document, write_failure
from worker.domain.documents import content_digest
from worker.domain.model import Notification, Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome, Cause, DeliveryState, FailureKind, Outcome, Priority, Stage
from worker.domain.strict_json import Json
from worker.pipeline.write import Situation
from worker.store import inbox, outbox, resources
from worker.store.engine import Database, Session, database_time
from worker.store.inbox import Arrival, Receipt
from worker.store.resources import Claim, Want
from worker.store.results import Document
from worker.store.tables import events
from worker.store.tables import resources as resources_table

SOURCE = "persona-live"
OTHER = "persona-test"
LEASE = timedelta(seconds=60)
SITUATION = Situation(horizon=timedelta(days=3), jitter=0.5)
PROBING = Situation(horizon=timedelta(days=3), jitter=0.5, probing=True)
BODY = b'{"data": {"id": "evt_1"}}'
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

CREATED = Verdict(Stage.CREATED, Outcome.NONE, final=False)
APPROVED = Verdict(Stage.DECIDED, Outcome.APPROVED, final=True)
REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)
ERASED = Verdict(Stage.ERASED, Outcome.NONE, final=True)


def ref(external_id: str = "inq_1", kind: str = "inquiry") -> ResourceRef:
    return ResourceRef(kind, external_id)


def key(external_id: str = "inq_1", kind: str = "inquiry", source: str = SOURCE) -> ResourceKey:
    return ResourceKey(source, ref(external_id, kind))


def arrival(
    delivery_key: str = "evt_1",
    *ids: str,
    source: str = SOURCE,
    body: bytes = BODY,
    looks_again: bool = False,
    state: DeliveryState = DeliveryState.ACCEPTED,
    event_type: str | None = "inquiry.created",
) -> Arrival:
    named = tuple(ref(external_id) for external_id in ids or ("inq_1",)) if state is DeliveryState.ACCEPTED else ()
    return Arrival(
        id=uuid.uuid4(),
        source=source,
        provider="persona",
        environment="sandbox",
        state=state,
        reason=None if state is DeliveryState.ACCEPTED else "because",
        notification=Notification(delivery_key, event_type, named, delivery_key, EARLY, looks_again),
        body=body,
        headers={"content-type": "application/json"},
    )


def record(database: Database, *arrivals: Arrival) -> list[Receipt]:
    return inbox.record_group(database, arrivals)


def want(
    database: Database,
    *ids: str,
    count: int = 1,
    source: str = SOURCE,
    priority: Priority = Priority.LIVE,
    cause: Cause = Cause.WEBHOOK,
    kind: str = "inquiry",
) -> None:
    wants = {key(name, kind, source): Want("persona", "sandbox", cause, priority, count) for name in ids or ("inq_1",)}
    with database.write() as session:
        resources.mark_wanted(session, wants, database_time(session))


def claim(database: Database, limit: int = 10, *, source: str = SOURCE, lease: timedelta = LEASE) -> list[Claim]:
    with database.write() as session:
        return resources.claim(session, source, limit=limit, lease=lease)


def claim_one(database: Database) -> Claim:
    """Claims the only resource that is due."""
    [one] = claim(database)
    return one


def wanted_and_claimed(database: Database, external_id: str = "inq_1") -> Claim:
    want(database, external_id)
    return claim_one(database)


class Undone(Exception):
    """Something went wrong before a transaction's end."""


@contextmanager
def undone(database: Database) -> Iterator[Session]:
    """A transaction that does not reach its end."""
    with suppress(Undone), database.write() as session:
        yield session
        raise Undone


def now(database: Database) -> datetime:
    with database.read() as session:
        return database_time(session)


def rows(database: Database, table: Table, **where: object) -> list[Row[tuple[object, ...]]]:
    """The rows with these values, by primary key."""
    query = select(*table.c).where(*(table.c[name] == value for name, value in where.items()))
    with database.read() as session:
        return list(session.execute(query.order_by(*table.primary_key.columns)).all())


def resource(database: Database, external_id: str = "inq_1") -> Row[tuple[object, ...]]:
    [row] = rows(database, resources_table, external_id=external_id)
    return row


def set_resource(database: Database, external_id: str = "inq_1", **values: object) -> None:
    """Changes a row behind the application's back: this is how tests shift times."""
    with database.write() as session:
        session.execute(update(resources_table).where(resources_table.c.external_id == external_id).values(**values))


def make_due(database: Database, external_id: str = "inq_1") -> None:
    """Lets the time until a resource is due pass, as if a lease or a backoff had run out."""
    set_resource(database, external_id, due_at=now(database) - timedelta(seconds=1))


def reading(
    verdict: Verdict = CREATED, *, updated: datetime | None = None, related: tuple[ResourceRef, ...] = (), **more
) -> Reading:
    return Reading(verdict, provider_status="said", provider_updated_at=updated, related=related, **more)


def document(content: dict[str, Json]) -> Document:
    body = json.dumps(content).encode()
    return Document(
        body=body,
        redacted=False,
        content=content,
        document_sha256=hashlib.sha256(body).hexdigest(),
        content_sha256=content_digest(content, ()),
        api_version="2025-12-08",
        mapping_version=1,
    )


def store(
    database: Database,
    held: Claim,
    content: dict[str, Json] | None = None,
    found: Reading | None = None,
    situation: Situation = SITUATION,
) -> AttemptOutcome:
    """Ends a claim with a document."""
    with database.write() as session:
        return write_document(session, held, found or reading(), document(content or {"a": 1}), situation)


def fail(database: Database, held: Claim, failure: FailureKind | Failure, situation: Situation = SITUATION) -> None:
    """Ends a claim without one."""
    failure = failure if isinstance(failure, Failure) else Failure(failure, f"because of {failure}")
    with database.write() as session:
        write_failure(session, held, failure, situation)


def retrieved(
    database: Database, external_id: str = "inq_1", found: Reading | None = None, **content: Json
) -> AttemptOutcome:
    """One whole retrieve of a resource: wanted, claimed, and stored."""
    return store(database, wanted_and_claimed(database, external_id), content or {"a": 1}, found)


def event_types(database: Database, external_id: str | None = "inq_1") -> list[str]:
    """The last words of the types of the events written so far, in order."""
    return [row.type.rpartition(".")[2] for row in rows(database, events) if row.external_id == external_id]


def number_all(database: Database) -> int:
    with database.write() as session:
        return outbox.number(session)
