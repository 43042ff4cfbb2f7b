"""Results, failures and deliveries that come into a database as the pipeline brings them."""

import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import uuid_utils.compat

from tests.support.writing import write_document, write_failure
from worker.domain.model import Check, Notification, Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.retry import Failure
from worker.domain.states import (
    AttemptOutcome,
    Cause,
    CheckOutcome,
    DeliveryState,
    FailureKind,
    Outcome,
    Stage,
)
from worker.pipeline import write
from worker.settings import ApiToken, Settings, Source, token_digest
from worker.store import inbox, outbox, resources
from worker.store.engine import Database, database_time
from worker.store.inbox import Arrival
from worker.store.resources import Claim, Want
from worker.store.results import Document

SOURCE = "persona-live"
KIND = "verification/selfie"
TOKEN = "a-token-of-the-tests"
APPROVED = Verdict(Stage.DECIDED, Outcome.APPROVED, True)
REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, True)
PENDING = Verdict(Stage.IN_PROGRESS, Outcome.NONE, False)
ERASED = Verdict(Stage.ERASED, Outcome.NONE, True)
LIVENESS = Check("liveness", CheckOutcome.PASSED, "passed", 0.98, 0.5, True, ("clear",), {"frames": 3})
SITUATION = write.Situation(horizon=timedelta(hours=72), jitter=0.5)


def settings(url: str, **changes: object) -> Settings:
    """Settings with two sources, whose providers nobody calls, and one API token."""
    sources = {
        SOURCE: {"provider": "persona", "webhook_secrets": ("s",), "api_key": "k"},
        "gu1-test": {"provider": "gu1", "webhook_secrets": ("s",), "api_key": "k", "environment": "sandbox"},
    }
    values: dict[str, object] = {
        "database_url": url,
        "api_tokens": (ApiToken(name="tests", sha256=token_digest(TOKEN)),),
        # Tests that ask for more than people do are not about the limit.
        "api_rate_limit_per_minute": 0,
        "sources": {slug: Source.model_validate({"slug": slug, **keys}) for slug, keys in sources.items()},
    }
    return Settings.model_validate({**values, **changes})


def key(external_id: str, kind: str = KIND, source: str = SOURCE) -> ResourceKey:
    return ResourceKey(source, ResourceRef(kind, external_id))


def reading(verdict: Verdict = APPROVED, **changes: object) -> Reading:
    """A reading with one check and a reference, unless `changes` say otherwise."""
    values: dict[str, object] = {
        "provider_status": "passed",
        "score": 0.98,
        "reference": "customer-1",
        "provider_created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "completed_at": datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        "checks": (LIVENESS,),
        **changes,
    }
    return replace(Reading(verdict), **values)  # type: ignore[arg-type]


def document(content: dict[str, object]) -> Document:
    """What a retrieve brought back that said `content`."""
    body = json.dumps(content).encode()
    digest = hashlib.sha256(body).hexdigest()
    return Document(body, False, json.loads(body), digest, digest, "2025-12-08", 1)


def want(database: Database, *keys: ResourceKey, cause: Cause = Cause.WEBHOOK) -> None:
    """Mark as wanted, as the receiver does."""
    with database.write() as session:
        wants = {item: Want(*_of(item.source), cause) for item in keys}
        resources.mark_wanted(session, wants, database_time(session))


def _of(source: str) -> tuple[str, str]:
    return ("persona", "live") if source == SOURCE else ("gu1", "sandbox")


def claim(database: Database, wanted: ResourceKey, lease: timedelta = timedelta(minutes=1)) -> Claim:
    """Claim the only resource of its source that is due."""
    # A retrieve that began in the millisecond of the one before would be taken for older news.
    time.sleep(0.003)
    with database.write() as session:
        [found] = resources.claim(session, wanted.source, limit=10, lease=lease)
    assert found.key == wanted
    return found


def store(
    database: Database, wanted: ResourceKey, read: Reading | None = None, content: dict[str, object] | None = None
) -> AttemptOutcome:
    """Want a resource and retrieve it: the provider answers with `content`, which `read` is the reading of."""
    want(database, wanted)
    taken = claim(database, wanted)
    with database.write() as session:
        told = document(content if content is not None else {"told_at": time.monotonic_ns()})
        return write_document(session, taken, read or reading(), told, SITUATION)


def fail(
    database: Database, wanted: ResourceKey, kind: FailureKind = FailureKind.REJECTED, status: int | None = 400
) -> None:
    """Want a resource and fail to retrieve it; by default that parks it."""
    want(database, wanted)
    taken = claim(database, wanted)
    with database.write() as session:
        failure = Failure(kind, f"the provider answered {status}", http_status=status)
        write_failure(session, taken, failure, SITUATION)


def receive(database: Database, *named: ResourceKey, state: DeliveryState = DeliveryState.ACCEPTED) -> str:
    """Record a delivery that names these resources; returns its id."""
    delivery_id = uuid_utils.compat.uuid7()
    source = named[0].source if named else SOURCE
    notification = Notification(
        f"evt_{delivery_id}", "verification.passed", tuple(item.ref for item in named), f"evt_{delivery_id}"
    )
    arrival = Arrival(delivery_id, source, *_of(source), state, None, notification, b"{}", {})
    with database.write() as session:
        inbox.record(session, [arrival])
    return str(delivery_id)


def number_events(database: Database) -> int:
    """Number the committed events, as the publisher does."""
    with database.write() as session:
        return outbox.number(session)
