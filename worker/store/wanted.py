"""Wanted: note that somebody wants a newer document of some resources, in one statement for all of them.

PostgreSQL gets its rows as arrays, by a text that is made once: making and reading the statement would otherwise take
longer than executing it, for every group of webhooks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Dialect,
    Insert,
    Integer,
    Interval,
    TableClause,
    Text,
    and_,
    bindparam,
    case,
    column,
    false,
    func,
    literal,
    literal_column,
    or_,
    table,
    true,
)
from sqlalchemy import select as select_rows
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TableValuedAlias

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause, Priority
from worker.store.engine import is_sqlite
from worker.store.tables import resources
from worker.store.types import UtcDateTime

POISON = "poison"
LONGEST_PAUSES = 6
"""Pauses after which work is not put off again. Without an end, news that never ceases would hide a decision."""

NOT_AT_ALL: Mapping[str, timedelta] = {}

# Constants stand in the text, so that it has few values to be filled in.
_ZERO: ColumnElement[int] = literal_column("0", Integer())
_NO_REASON: ColumnElement[str] = literal_column("''", Text())
_POISON: ColumnElement[str] = literal_column(f"'{POISON}'", Text())

_POSTGRESQL: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]

_Upsert = postgresql.Insert | sqlite.Insert

_NAMED = ("source", "provider", "environment", "kind", "external_id", "cause")
_COUNTED = ("priority", "wanted")
"""The columns whose values come one by one; the others follow from how much is wanted, and when."""


@dataclass(frozen=True, slots=True)
class Want:
    """Somebody wants a newer document. `count` 0 only wakes work that is still open."""

    provider: str
    environment: str
    cause: Cause
    priority: Priority = Priority.LIVE
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Pause:
    """A source that has one, and the moments that it makes of now: as values, or as names of values."""

    source: ColumnElement[str]
    just_now: ColumnElement[datetime]
    patient_since: ColumnElement[datetime]
    over: ColumnElement[datetime]


def mark_wanted(
    session: Session,
    wants: Mapping[ResourceKey, Want],
    now: datetime,
    *,
    revive: bool = False,
    coalesce: Mapping[str, timedelta] = NOT_AT_ALL,
) -> dict[ResourceKey, int]:
    """Note that each resource is wanted, creating those not known yet; returns their row ids.

    Work in flight is left alone: whoever holds the claim sees at the end that more was wanted meanwhile. Everything
    else that is open becomes due now, parked work too, except poison: that would only crash the next worker. With
    `revive`, for an operator who knows better, poison is tried again as well.

    `coalesce` is how long to wait for silence, by source, with what was read a moment ago: providers send several
    notifications within seconds, and one more call answers them all.

    Rows are taken in the order of their keys, as everybody takes them who takes several.
    """
    if not wants:
        return {}
    keys = sorted(wants)
    sources = {key.source for key in keys}
    pauses = {source: pause for source, pause in sorted(coalesce.items()) if pause and source in sources}
    if is_sqlite(session):
        given = [
            _Pause(literal(source), _time(now - pause), _time(now - LONGEST_PAUSES * pause), _time(now + pause))
            for source, pause in pauses.items()
        ]
        statement = _upsert(sqlite.insert(resources), _time(now), given, revive=revive)
        found = session.execute(statement, [_new_row(key, wants[key], now) for key in keys])
    else:
        values = {**_arrays(keys, wants), **_values(now, pauses)}
        found = session.connection().exec_driver_sql(_postgresql_text(len(pauses), revive), values)
    return {ResourceKey(row.source, ResourceRef(row.kind, row.external_id)): row.id for row in found}


def _time(moment: datetime) -> ColumnElement[datetime]:
    return literal(moment, UtcDateTime())


def _upsert(
    statement: _Upsert, now: ColumnElement[datetime], pauses: Sequence[_Pause], *, revive: bool, some: bool = False
) -> Insert:
    """`some` says that each row is wanted once at least, which leaves half of the conditions out."""
    new = statement.excluded
    open_work = true() if some else or_(new.wanted > _ZERO, resources.c.wanted > resources.c.retrieved)
    in_flight = and_(resources.c.claim_token.is_not(None), resources.c.due_at > now)
    spared = false() if revive else func.coalesce(resources.c.park_reason, _NO_REASON) == _POISON
    untouched = or_(in_flight, ~open_work, spared)
    starts_over = and_(resources.c.parked_at.is_not(None), ~untouched)
    return statement.on_conflict_do_update(
        index_elements=[resources.c.source, resources.c.kind, resources.c.external_id],
        set_={
            "wanted": resources.c.wanted + new.wanted,
            # Work that was parked starts over: it gets the whole horizon again.
            "wanted_since": case(
                (
                    and_(open_work, resources.c.parked_at.is_(None)),
                    func.coalesce(resources.c.wanted_since, now),
                ),
                (open_work, now),
            ),
            # What is due already keeps its place among what waits for the budget, however often it is told of.
            "due_at": case(
                (or_(untouched, resources.c.due_at <= now), resources.c.due_at),
                *_after_a_pause(now, pauses),
                else_=now,
            ),
            "parked_at": case((untouched, resources.c.parked_at)),
            "park_reason": case((untouched, resources.c.park_reason)),
            "park_step": case((untouched, resources.c.park_step)),
            "park_fingerprint": case((untouched, resources.c.park_fingerprint)),
            "failures": case((starts_over, _ZERO), else_=resources.c.failures),
            "crashes": case((starts_over, _ZERO), else_=resources.c.crashes),
            "priority": case(
                (or_(resources.c.due_at.is_(None), new.priority < resources.c.priority), new.priority),
                else_=resources.c.priority,
            ),
            "cause": new.cause if some else case((new.wanted > _ZERO, new.cause), else_=resources.c.cause),
        },
    ).returning(resources.c.id, resources.c.source, resources.c.kind, resources.c.external_id)


def _after_a_pause(
    now: ColumnElement[datetime], pauses: Sequence[_Pause]
) -> list[tuple[ColumnElement[bool], ColumnElement[datetime]]]:
    """When to read again what was read a moment ago, or waits because it was: once nothing was told for a pause, and
    without more delay where it has waited for several."""
    waiting = and_(resources.c.read_started_at.is_not(None), resources.c.due_at > now, resources.c.failures == _ZERO)
    cases: list[tuple[ColumnElement[bool], ColumnElement[datetime]]] = []
    for pause in pauses:
        pausing = and_(resources.c.source == pause.source, or_(resources.c.read_started_at > pause.just_now, waiting))
        patient = resources.c.wanted_since <= pause.patient_since
        cases.append((pausing, case((patient, func.coalesce(resources.c.due_at, now)), else_=pause.over)))
    return cases


def _new_row(key: ResourceKey, want: Want, now: datetime) -> dict[str, object]:
    return {
        "source": key.source,
        "kind": key.ref.kind,
        "external_id": key.ref.external_id,
        "provider": want.provider,
        "environment": want.environment,
        "created_at": now,
        "cause": want.cause,
        "priority": int(want.priority),
        "wanted": want.count,
        "wanted_since": now if want.count else None,
        "due_at": now if want.count else None,
    }


def _arrays(keys: Sequence[ResourceKey], wants: Mapping[ResourceKey, Want]) -> dict[str, list[str] | list[int]]:
    rows = [(key, wants[key]) for key in keys]
    return {
        "source": [key.source for key in keys],
        "provider": [want.provider for _, want in rows],
        "environment": [want.environment for _, want in rows],
        "kind": [key.ref.kind for key in keys],
        "external_id": [key.ref.external_id for key in keys],
        "cause": [want.cause.value for _, want in rows],
        "priority": [int(want.priority) for _, want in rows],
        "wanted": [want.count for _, want in rows],
    }


def _values(now: datetime, pauses: Mapping[str, timedelta]) -> dict[str, datetime | str]:
    values: dict[str, datetime | str] = {"now": now}
    for number, (source, pause) in enumerate(pauses.items()):
        values[f"source_{number}"] = source
        values[f"just_now_{number}"] = now - pause
        values[f"patient_since_{number}"] = now - LONGEST_PAUSES * pause
        values[f"over_{number}"] = now + pause
    return values


def _named(number: int) -> _Pause:
    just_now, patient_since, over = (
        bindparam(f"{name}_{number}", type_=UtcDateTime()) for name in ("just_now", "patient_since", "over")
    )
    return _Pause(bindparam(f"source_{number}", type_=Text()), just_now, patient_since, over)


@lru_cache(maxsize=128)
def _postgresql_text(pauses: int, revive: bool) -> str:
    """The statement for PostgreSQL, with names where `_arrays` and `_values` put values."""
    texts = [bindparam(name, type_=ARRAY(Text())) for name in _NAMED]
    counts = [bindparam(name, type_=ARRAY(Integer())) for name in _COUNTED]
    # The rows of several arrays come in the order of the arrays.
    rows = func.unnest(*texts, *counts).table_valued(*_NAMED, *_COUNTED).render_derived()
    now = bindparam("now", type_=UtcDateTime())
    return _marking(rows, now, [_named(number) for number in range(pauses)], revive=revive)


def marking(rows: str, clock: str, pauses: int) -> str:
    """What `mark_wanted` does, as a part of a larger statement for PostgreSQL: for the rows of a relation there, with
    the columns of a want and in its order, each wanted at least once, at the time that the expression `clock` gives.
    `pause_values` gives its parameters."""
    wants = table(rows, *(column(name, Text()) for name in _NAMED), *(column(name, Integer()) for name in _COUNTED))
    now: ColumnElement[datetime] = literal_column(clock, UtcDateTime())
    return _marking(wants, now, [_reckoned(now, number) for number in range(pauses)], some=True)


def pause_values(pauses: Mapping[str, timedelta]) -> dict[str, str | timedelta]:
    """The parameters of `marking`."""
    values: dict[str, str | timedelta] = {}
    for number, (source, pause) in enumerate(pauses.items()):
        values |= {f"source_{number}": source, f"pause_{number}": pause, f"patience_{number}": LONGEST_PAUSES * pause}
    return values


def _reckoned(now: ColumnElement[datetime], number: int) -> _Pause:
    pause, patience = (bindparam(f"{name}_{number}", type_=Interval()) for name in ("pause", "patience"))
    return _Pause(bindparam(f"source_{number}", type_=Text()), now - pause, now - patience, now + pause)


def _marking(
    rows: TableValuedAlias | TableClause,
    now: ColumnElement[datetime],
    pauses: Sequence[_Pause],
    *,
    revive: bool = False,
    some: bool = False,
) -> str:
    due = now if some else case((rows.c.wanted > _ZERO, now))
    statement = postgresql.insert(resources).from_select(
        [*_NAMED, *_COUNTED, "created_at", "wanted_since", "due_at"],
        select_rows(*(rows.c[name] for name in (*_NAMED, *_COUNTED)), now, due, due),
        include_defaults=False,
    )
    text = str(_upsert(statement, now, pauses, revive=revive, some=some).compile(dialect=_POSTGRESQL))
    # psycopg remembers how it reads a text, but only one of up to 4,096 characters.
    text = text.replace("::TIMESTAMP WITH TIME ZONE", "::timestamptz")
    return text.replace("INSERT INTO resources (", "INSERT INTO resources AS r (").replace("resources.", "r.")
