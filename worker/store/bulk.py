"""Many rows in one statement.

PostgreSQL gets each column as one array, and so takes no text apart. It gets several tables in one go, because a
statement costs us as much as thirty rows. SQLite, which is called and not sent to, executes once for each row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    Dialect,
    FromClause,
    Row,
    String,
    Table,
    Text,
    Update,
    bindparam,
    column,
    func,
    select,
    table,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from worker.store.arrays import Array
from worker.store.engine import insert, is_sqlite
from worker.store.packing import Packing, packing

Rows: TypeAlias = Sequence[Mapping[str, object]]
Like: TypeAlias = tuple[tuple[str, "Column[Any]"], ...]
"""Names of values, each with a column of its type."""

Statement: TypeAlias = postgresql.Insert | sqlite.Insert

_POSTGRESQL: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Insertion:
    """What becomes of rows: into which table, and what about one that is there already, by the columns in `key`.

    Without `key` a conflict is an error. With it the row's `replaced` columns are taken over; where there are none, the
    row that is there stays. With `owner`, rows belong to rows that are inserted with them.
    """

    table: Table
    key: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()
    owner: "Owner | None" = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Rows of an earlier step of the same `write_together`, which returns its `id` and the column `by`. Instead of that
    id for their column `column`, the rows that belong to them name the owner by `by`."""

    step: Insertion
    by: str
    column: str


def insert_rows(session: Session, insertion: Insertion, rows: Rows) -> Sequence[Row[Any]]:
    """Insert rows, all with the same columns and in this order. Returns the `returning` columns of those that were
    inserted or changed, in no order."""
    if not rows:
        return ()
    if is_sqlite(session):
        found = session.execute(_ending(insert(session, insertion.table), insertion), list(rows))
        return found.all() if insertion.returning else ()
    like = _like(insertion, rows)
    found = session.connection().exec_driver_sql(_text(insertion, like), _values(like, rows))
    return found.all() if insertion.returning else ()


def _ending(statement: Statement, insertion: Insertion) -> Statement | ReturningInsert[Any]:
    if insertion.replaced:
        changes = {name: statement.excluded[name] for name in insertion.replaced}
        statement = statement.on_conflict_do_update(index_elements=insertion.key, set_=changes)
    elif insertion.key:
        statement = statement.on_conflict_do_nothing(index_elements=insertion.key)
    if insertion.returning:
        return statement.returning(*(insertion.table.c[name] for name in insertion.returning))
    return statement


Value: TypeAlias = Callable[[str], "ColumnElement[Any]"]


@dataclass(frozen=True, slots=True)
class Change:
    """An UPDATE for each of some rows. `build` makes it of the values of one, which it asks for by name, and of
    constants that stand in the text; `like` pairs each name with a column of its type."""

    like: Like
    build: Callable[[Value], Update]


Step: TypeAlias = tuple[Insertion | Change, Rows]


def write_together(session: Session, steps: Sequence[Step]) -> list[int]:
    """Do all steps, of which no two write the same table; returns how many table rows each has written.

    PostgreSQL gets them as one statement. None of them sees what another writes, but for the ids of owners, and foreign
    keys are looked at when all is written.
    """
    if is_sqlite(session):
        return _write_one_by_one(session, steps)
    parts = [(what, _like(what, rows), rows) for what, rows in steps if rows]
    if not parts:
        return [0] * len(steps)
    values: dict[str, Array] = {}
    for place, (_, like, rows) in enumerate(parts):
        values |= _values(like, rows, place)
    [counts] = session.connection().exec_driver_sql(_joint_text(tuple(part[:2] for part in parts)), values)
    found = iter(counts)
    return [next(found) if rows else 0 for _, rows in steps]


def _write_one_by_one(session: Session, steps: Sequence[Step]) -> list[int]:
    counts = []
    ids: dict[Insertion, dict[object, object]] = {}
    for what, rows in steps:
        owner = what.owner if isinstance(what, Insertion) else None
        if owner is not None:
            rows = [_owned(row, owner, ids[owner.step]) for row in rows]
        if isinstance(what, Insertion) and what.returning:
            found = insert_rows(session, what, rows)
            ids[what] = {key: row_id for row_id, key in map(tuple, found)}
            counts.append(len(found))
        else:
            counts.append(_write_each(session, what, rows))
    return counts


def _owned(row: Mapping[str, object], owner: Owner, ids: Mapping[object, object]) -> dict[str, object]:
    values = dict(row)
    values[owner.column] = ids[values.pop(owner.by)]
    return values


def _write_each(session: Session, what: "Insertion | Change", rows: Rows) -> int:
    if not rows:
        return 0
    # By way of the connection: the session would take rows of parameters for objects of its own to be updated.
    connection = session.connection()
    if isinstance(what, Insertion):
        return connection.execute(_ending(insert(session, what.table), what), list(rows)).rowcount
    types = {name: like.type for name, like in what.like}
    return connection.execute(what.build(lambda name: bindparam(name, type_=types[name])), list(rows)).rowcount


@lru_cache(maxsize=64)
def _joint_text(parts: "tuple[tuple[Insertion | Change, Like], ...]") -> str:
    places = {what: place for place, (what, _) in enumerate(parts)}
    texts = []
    for place, (what, like) in enumerate(parts):
        owner = what.owner if isinstance(what, Insertion) else None
        text = _text(what, like, place, places[owner.step] if owner is not None else 0)
        returning = "" if isinstance(what, Insertion) and what.returning else " RETURNING 1"
        texts.append(f"w{place} AS ({text}{returning})")
    counts = [f"(SELECT count(*) FROM w{place})" for place in range(len(parts))]  # noqa: S608 - numbers of our own
    return f"WITH {', '.join(texts)} SELECT {', '.join(counts)}"


@lru_cache(maxsize=128)
def _text(what: "Insertion | Change", like: Like, place: int = 0, owners: int = 0) -> str:
    """The statement as PostgreSQL's driver takes it; SQLAlchemy would make and look it up anew each time. `owners` is
    the place of the step whose rows its rows belong to."""
    values = _unnested(like, place)
    if isinstance(what, Change):
        return postgresql_text(what.build(lambda name: values.c[name]))
    chosen: dict[str, ColumnElement[Any]] = {name: values.c[name] for name, _ in like}
    source: FromClause = values
    if what.owner is not None:
        owning = table(f"w{owners}", column("id"), column(what.owner.by))
        chosen[what.owner.column] = owning.c.id
        source = values.join(owning, chosen.pop(what.owner.by) == owning.c[what.owner.by])
    rows = select(*chosen.values()).select_from(source)
    return postgresql_text(_ending(postgresql.insert(what.table).from_select(list(chosen), rows), what))


def postgresql_text(statement: ClauseElement) -> str:
    """A statement as PostgreSQL's driver takes it, with its parameters by name."""
    # psycopg remembers how it has read texts of up to 4,096 characters.
    return str(statement.compile(dialect=_POSTGRESQL)).replace("TIMESTAMP WITH TIME ZONE", "timestamptz")


def _like(what: "Insertion | Change", rows: Rows) -> Like:
    if isinstance(what, Change):
        return what.like
    columns = (
        what.table.c if what.owner is None else {**what.table.c, what.owner.by: what.owner.step.table.c[what.owner.by]}
    )
    return tuple((name, columns[name]) for name in rows[0])


@lru_cache(maxsize=128)
def _packings(like: Like) -> tuple[Packing, ...]:
    return tuple(packing(found.type) for _, found in like)


def _values(like: Like, rows: Rows, place: int = 0) -> dict[str, Array]:
    return {
        _parameter(place, number): pack([row[name] for row in rows])
        for number, ((name, _), pack) in enumerate(zip(like, _packings(like), strict=True))
    }


def _unnested(like: Like, place: int) -> TableValuedAlias:
    arrays = [
        bindparam(_parameter(place, number), type_=ARRAY(_sent_as(found))) for number, (_, found) in enumerate(like)
    ]
    columns = [column(name, found.type) for name, found in like]
    # The rows of several arrays come in the order of the arrays.
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="v")


def _sent_as(found: "Column[Any]") -> TypeEngine[Any]:
    # What is cast to a text of some length is cut off there. What is put into such a column is refused if it is longer.
    return Text() if isinstance(found.type, String) else found.type


def _parameter(place: int, number: int) -> str:
    # Short, because there are many. The name of a column would be reserved for a value of that column.
    return f"p{place}_{number}"
