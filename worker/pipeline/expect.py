"""Expect: results that should be there by a time, and what is done when they are not.

The provider is asked first; only what is still missing after that is overdue. Two leaders do no harm: each row is
looked at by whoever locks it.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from worker import metrics
from worker.clock import monotonic
from worker.domain.events import Event
from worker.domain.expectations import (
    EARLIEST_DEADLINE,
    LATEST_DEADLINE,
    Decision,
    Expected,
    Look,
    Met,
    Overdue,
    Standing,
    Try,
    decide,
    is_settled,
)
from worker.domain.model import KIND, ResourceKey, ResourceRef
from worker.domain.states import Cause, EventType, ExpectationState, OverdueReason
from worker.pipeline import operate
from worker.providers.registry import providers
from worker.settings import Settings, Source
from worker.store import audit, expectations, outbox, resources, sources
from worker.store.audit import Deed
from worker.store.engine import Database, Session, database_time
from worker.store.expectations import Found, Item, Wanted
from worker.store.resources import Want
from worker.store.sources import SourceState
from worker.store.types import storable

AT_ONCE = 20
"""Expectations looked at in one transaction. More would keep SQLite's only writer from the receivers for too long."""

CHECK_SECONDS = 1.0
"""How long one sweep looks at expectations. The leader's lease lasts for five; what is left over waits for the next."""


class BadExpectation(ValueError):
    """What is expected cannot be. `where` names the part of it that is wrong."""

    def __init__(self, where: str, why: str) -> None:
        self.where = where
        super().__init__(why)


def add(session: Session, settings: Settings, wanted: Wanted, *, actor: str) -> tuple[uuid.UUID, bool]:
    """Expect a result. Returns the expectation's id, and whether it is new: the same is expected only once.

    Raises UnknownSource and BadExpectation.
    """
    source = operate.configured_source(settings, wanted.source)
    now = database_time(session)
    _require_sense(session, source, wanted)
    if not now - EARLIEST_DEADLINE <= wanted.deadline <= now + LATEST_DEADLINE:
        raise BadExpectation("deadline", "must be at most a day ago and at most a year away")
    return expectations.add(session, wanted, actor, now)


def _require_sense(session: Session, source: Source, wanted: Wanted) -> None:
    if (wanted.external_id is None) == (wanted.reference is None):
        raise BadExpectation("external_id", "give external_id or reference, and not both")
    if wanted.external_id is not None:
        try:
            key = ResourceKey(wanted.source, ResourceRef(wanted.kind, wanted.external_id))
        except ValueError as error:
            raise BadExpectation("external_id" if KIND.match(wanted.kind) else "kind", str(error)) from None
        try:
            operate.require_retrievable(session, source, key)
        except ValueError as error:
            raise BadExpectation("kind", str(error)) from None
        return
    if wanted.reference is not None and storable(wanted.reference) != wanted.reference:
        raise BadExpectation("reference", "holds characters that no database can hold")
    kinds = providers([source.provider])[source.provider].kinds
    if wanted.kind not in kinds:
        raise BadExpectation("kind", f"{source.provider} has no such kind; it has {', '.join(kinds)}")


def cancel(session: Session, expectation_id: uuid.UUID, *, actor: str) -> bool:
    """Expect a result no longer; false if there is nothing to cancel, because it is closed or was never there."""
    now = database_time(session)
    if not expectations.cancel(session, expectation_id, now):
        return False
    audit.note(session, Deed(actor, "cancel-expectation", str(expectation_id)), now)
    return True


@dataclass(slots=True)
class _Round:
    """What one transaction knows of the sources, and what it wants done."""

    now: datetime
    states: dict[str, SourceState]
    wants: dict[ResourceKey, Want]
    became: list[tuple[str, ExpectationState]]


class Expectations:
    """Looks at every expectation whose time has come; a chore of the sweep's leader."""

    def __init__(self, database: Database, settings: Settings, nudge: Callable[[str], None]) -> None:
        self._database = database
        self._settings = settings
        self._nudge = nudge

    def check(self) -> None:
        """Look at what is due, for a bounded time."""
        ends = monotonic() + CHECK_SECONDS
        while self._check_some() == AT_ONCE and monotonic() < ends:
            pass

    def _check_some(self) -> int:
        with self._database.read() as session:
            if not expectations.any_due(session):
                return 0
        with self._database.write() as session:
            now = database_time(session)
            items = expectations.lock_due(session, now, AT_ONCE)
            current = _Round(now, sources.states(session), {}, [])
            for item in items:
                self._look(session, item, current)
            resources.mark_wanted(session, current.wants, now)
        for slug in sorted({key.source for key in current.wants}):
            self._nudge(slug)
        for slug, state in current.became:
            known = slug if slug in self._settings.sources else metrics.UNCONFIGURED
            metrics.counter(metrics.EXPECTATIONS, known, state).inc()
        return len(items)

    def _look(self, session: Session, item: Item, current: _Round) -> None:
        found = expectations.find(session, item, current.now)
        expected = Expected(
            ExpectationState(item.state), since=max(item.deadline, item.created_at), tried_at=item.tried_at
        )
        state = current.states.get(item.source, SourceState(item.source))
        obstacle = None
        if state.may_call(current.now) is not None:
            obstacle = OverdueReason.HELD if state.held_at is not None else OverdueReason.THROTTLED
        configured = item.source in self._settings.sources
        standing = Standing(
            settled=found is not None and found.stage is not None and is_settled(found.stage, found.final),
            retrievable=configured and (item.external_id is not None or found is not None),
            configured=configured,
            work=found.work if found else None,
            obstacle=obstacle,
        )
        self._act(session, item, found, decide(expected, standing, current.now), current)

    def _act(self, session: Session, item: Item, found: Found | None, decision: Decision, current: _Round) -> None:
        now = current.now
        values: dict[str, object] = {"resource_id": found.resource_id} if found else {}
        match decision:
            case Met():
                late = item.state == ExpectationState.OVERDUE
                state = ExpectationState.MET_LATE if late else ExpectationState.MET
                values.update(state=state, check_at=None, closed_at=now)
                current.became.append((item.source, state))
            case Try(look_at):
                external_id = found.external_id if found else str(item.external_id)
                key = ResourceKey(item.source, ResourceRef(item.kind, external_id))
                source = self._settings.sources[item.source]
                current.wants[key] = Want(source.provider, source.environment, Cause.RETRIEVAL)
                values.update(state=ExpectationState.TRYING, tried_at=now, check_at=look_at)
            case Look(look_at):
                values.update(check_at=look_at, closed_at=now if look_at is None else None)
            case Overdue(reason, look_at):
                values.update(state=ExpectationState.OVERDUE, check_at=look_at)
                outbox.append(session, [self._event(item, found, reason)], now)
                current.became.append((item.source, ExpectationState.OVERDUE))
        expectations.change(session, item.id, **values)

    def _event(self, item: Item, found: Found | None, reason: OverdueReason) -> Event:
        """The event. It names the expectation and never the reference, which may be a person's name or number."""
        source = self._settings.sources.get(item.source)
        external_id = found.external_id if found else item.external_id
        return Event(
            EventType.OVERDUE,
            item.source,
            item.kind,
            external_id,
            occasion=f"expectation-{item.id}",
            data={
                "expectation": str(item.id),
                "source": item.source,
                "provider": source.provider if source else None,
                "environment": source.environment if source else None,
                "kind": item.kind,
                "external_id": external_id,
                "deadline": item.deadline.isoformat(),
                "reason": reason,
            },
        )
