"""Expected results: who waits for what, until when, and what became of it.

`check_at` is when to look next. While an expectation is open that is its deadline, so nothing is looked at before; once
it is closed it is null, so nothing is looked at in vain.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

import uuid_utils.compat
from sqlalchemy import Row, ScalarSelect, Select, and_, case, func, literal_column, or_, select, tuple_, update
from sqlalchemy.orm import Session

from worker.domain.expectations import EARLIER_MATCH
from worker.domain.states import ExpectationState, ResourceState, Stage
from worker.store.engine import database_time, insert
from worker.store.query import Record, record, records, unindexed
from worker.store.query_work import state_conditions
from worker.store.tables import expectations, resources, results

STILL_OPEN = (ExpectationState.OPEN, ExpectationState.TRYING, ExpectationState.OVERDUE)

MOST_LOOKED_AT = 10_000
"""Expectations that one page looks at, where it takes only those of one source; the next page goes on behind them."""

Item = Row[tuple[object, ...]]
"""An expectation's row."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A result that somebody expects, named by exactly one of `external_id` and `reference`."""

    source: str
    kind: str
    external_id: str | None
    reference: str | None
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """The resource that an expectation is about. Without `stage` there is no result of it yet."""

    resource_id: int
    external_id: str
    work: ResourceState
    stage: Stage | None
    final: bool


@dataclass(frozen=True, slots=True)
class ExpectationFilter:
    """Which expectations; None is all."""

    source: str | None = None
    state: str | None = None


def add(session: Session, wanted: Wanted, actor: str, now: datetime) -> tuple[uuid.UUID, bool]:
    """Note what is expected. Returns its id, and whether it was not expected already."""
    while True:
        new = session.execute(
            insert(session, expectations)
            .values(
                id=uuid_utils.compat.uuid7(),
                source=wanted.source,
                kind=wanted.kind,
                external_id=wanted.external_id,
                reference=wanted.reference,
                deadline=wanted.deadline,
                actor=actor,
                state=ExpectationState.OPEN,
                created_at=now,
                check_at=wanted.deadline,
            )
            .on_conflict_do_nothing()
            .returning(expectations.c.id)
        ).one_or_none()
        known = new or session.execute(_same(wanted)).one_or_none()
        # Neither is there when the one in the way was cancelled in this very moment.
        if known is not None:
            return known.id, new is not None


def _same(wanted: Wanted) -> Select[tuple[uuid.UUID]]:
    if wanted.external_id is not None:
        name = expectations.c.external_id == wanted.external_id
    else:
        name = expectations.c.reference == wanted.reference
    return select(expectations.c.id).where(
        expectations.c.source == wanted.source,
        expectations.c.kind == wanted.kind,
        name,
        expectations.c.deadline == wanted.deadline,
        # The state stands in the statement itself, because that is how the index is recognised.
        expectations.c.state != literal_column("'cancelled'"),
    )


def cancel(session: Session, expectation_id: uuid.UUID, now: datetime) -> bool:
    """Expect it no longer; false if it is closed already, or was never there."""
    cancelled = session.execute(
        update(expectations)
        .where(expectations.c.id == expectation_id, expectations.c.state.in_(STILL_OPEN))
        .values(state=ExpectationState.CANCELLED, check_at=None, closed_at=now)
        .returning(expectations.c.id)
    )
    return cancelled.first() is not None


def any_due(session: Session) -> bool:
    """Whether there is anything to look at now."""
    now = database_time(session)
    return session.execute(select(expectations.c.id).where(expectations.c.check_at <= now).limit(1)).first() is not None


def lock_due(session: Session, now: datetime, limit: int) -> list[Item]:
    """Expectations to look at now, locked until the transaction ends. What another leader has locked is left to it."""
    return list(
        session.execute(
            select(*expectations.c)
            .where(expectations.c.check_at <= now)
            .order_by(expectations.c.check_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
    )


def change(session: Session, expectation_id: uuid.UUID, **values: object) -> None:
    """Write down what a look at an expectation came to."""
    session.execute(update(expectations).where(expectations.c.id == expectation_id).values(**values))


def find(session: Session, item: Item, now: datetime) -> Found | None:
    """The resource that the expectation is about, if anything is known of it.

    Of several with the same reference the newest counts. What was settled well before it was expected belongs to an
    earlier verification of the same person, and is passed over.
    """
    state = case(*((condition, str(state)) for state, condition in state_conditions(now).items()))
    columns = (resources.c.id, resources.c.external_id, state.label("work"), results.c.stage, results.c.final)
    query = select(*columns).select_from(resources)
    if item.external_id is not None:
        query = query.outerjoin(results, results.c.resource_id == resources.c.id).where(
            resources.c.source == item.source,
            resources.c.kind == item.kind,
            resources.c.external_id == item.external_id,
        )
    else:
        settled = or_(results.c.stage == Stage.DECIDED, results.c.final)
        earlier = and_(settled, results.c.updated_at < item.created_at - EARLIER_MATCH)
        query = (
            query.join(results, results.c.resource_id == resources.c.id)
            .where(
                results.c.reference == item.reference,
                unindexed(resources.c.source) == item.source,
                unindexed(resources.c.kind) == item.kind,
                ~earlier,
            )
            .order_by(resources.c.id.desc())
            .limit(1)
        )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    stage = None if row.stage is None else Stage(row.stage)
    return Found(row.id, row.external_id, ResourceState(row.work), stage, bool(row.final))


_SHOWN = tuple(column for column in expectations.c if column.name not in ("check_at", "resource_id"))


def _shown() -> Select[tuple[object, ...]]:
    found = resources.c.external_id.label("found")
    return select(*_SHOWN, found).outerjoin(resources, resources.c.id == expectations.c.resource_id)


def one(session: Session, expectation_id: uuid.UUID) -> Record | None:
    """One expectation, with the id of the resource that was `found` for it."""
    return record(session, _shown().where(expectations.c.id == expectation_id))


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of the list that a page is taken from: behind the expectation with the id `after`, up to the one with
    the id `until`; None is the list's own end."""

    after: uuid.UUID | None = None
    until: uuid.UUID | None = None
    newest_first: bool = False


_ORDER = (expectations.c.deadline, expectations.c.id)


def page(session: Session, wanted: ExpectationFilter, stretch: Stretch, *, limit: int) -> list[Record]:
    """Expectations in order of their deadlines."""
    query = _along(_shown(), wanted, stretch)
    if wanted.source is not None:
        query = query.where(unindexed(expectations.c.source) == wanted.source)
    return records(session, query.limit(limit))


def look_until(session: Session, wanted: ExpectationFilter, stretch: Stretch) -> uuid.UUID | None:
    """How far a page looks that begins like `stretch`; None is to the end, because that is near."""
    ids: Select[tuple[object, ...]] = select(expectations.c.id)
    row = session.execute(_along(ids, wanted, stretch).offset(MOST_LOOKED_AT - 1).limit(1)).one_or_none()
    return None if row is None else row.id


def _along(
    query: "Select[tuple[object, ...]]", wanted: ExpectationFilter, stretch: Stretch
) -> "Select[tuple[object, ...]]":
    here = tuple_(*_ORDER)
    if wanted.state is not None:
        query = query.where(expectations.c.state == wanted.state)
    if stretch.after is not None:
        place = _place_of(stretch.after)
        query = query.where(here < place if stretch.newest_first else here > place)
    if stretch.until is not None:
        place = _place_of(stretch.until)
        query = query.where(here >= place if stretch.newest_first else here <= place)
    return query.order_by(*(column.desc() for column in _ORDER)) if stretch.newest_first else query.order_by(*_ORDER)


def _place_of(expectation_id: uuid.UUID) -> "ScalarSelect[object]":
    return select(*_ORDER).where(expectations.c.id == expectation_id).scalar_subquery()


def exists(session: Session, expectation_id: uuid.UUID) -> bool:
    """Whether there is such an expectation."""
    return session.execute(select(expectations.c.id).where(expectations.c.id == expectation_id)).first() is not None


def count_overdue(session: Session, since: datetime, limit: int) -> int:
    """How many expectations whose deadline was after `since` are overdue; counting stops at `limit`."""
    some = (
        select(expectations.c.id)
        .where(expectations.c.state == ExpectationState.OVERDUE, expectations.c.deadline > since)
        .limit(limit)
    )
    return session.execute(select(func.count()).select_from(some.subquery())).scalar_one()
