"""Many rows in one statement.

PostgreSQL gets each column as one array, which costs it and us a fraction of binding and executing once for each row.
SQLite, which is called and not sent to, executes once for each row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import Column, ColumnElement, Row, Table, Text, Update, bindparam, cast, column, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from worker.store.engine import insert, is_sqlite
from worker.store.types import SafeJson, json_text

Rows: TypeAlias = Sequence[Mapping[str, object]]
Like: TypeAlias = tuple[tuple[str, "Column[Any]"], ...]
"""Names of values, each with a column of its type."""

Statement: TypeAlias = postgresql.Insert | sqlite.Insert


@dataclass(frozen=True, slots=True)
class Insertion:
    """What becomes of rows: into which table, and what about one that is there already, by the columns in `key`.

    Without `key` a conflict is an error. With it the row's `replaced` columns are taken over; where there are none, the
    row that is there stays.
    """

    table: Table
    key: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    returning: tuple[str, ...] = ()


def insert_rows(session: Session, insertion: Insertion, rows: Rows) -> Sequence[Row[Any]]:
    """Insert rows, all with the same columns and in this order. Returns the `returning` columns of those that were
    inserted or changed, in no order."""
    if not rows:
        return ()
    if is_sqlite(session):
        statement = _ending(insert(session, insertion.table), insertion)
        found = session.execute(statement, list(rows))
    else:
        names = tuple(rows[0])
        found = session.execute(_insertion(insertion, names), _arrays(_columns(insertion.table, names), rows))
    return found.all() if insertion.returning else ()


@lru_cache(maxsize=64)
def _insertion(insertion: Insertion, names: tuple[str, ...]) -> Statement | ReturningInsert[Any]:
    columns = _columns(insertion.table, names)
    values = _unnested(columns)
    chosen = select(*(_value(values.c[name], like) for name, like in columns))
    return _ending(postgresql.insert(insertion.table).from_select(names, chosen), insertion)


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
    """An UPDATE for each of some rows. `build` makes it of the values of one, which it asks for by name; `like` pairs
    each name with a column of its type."""

    like: Like
    build: Callable[[Value], Update]


def update_rows(session: Session, change: Change, rows: Rows) -> int:
    """Change one table row for each of `rows`; returns how many there were to change."""
    if not rows:
        return 0
    # By way of the connection: the session would take rows of parameters for objects of its own to be updated.
    if is_sqlite(session):
        return session.connection().execute(_update(change, in_arrays=False), list(rows)).rowcount
    return session.connection().execute(_update(change, in_arrays=True), _arrays(change.like, rows)).rowcount


@lru_cache(maxsize=64)
def _update(change: Change, *, in_arrays: bool) -> Update:
    if not in_arrays:
        types = {name: like.type for name, like in change.like}
        return change.build(lambda name: bindparam(name, type_=types[name]))
    values = _unnested(change.like)
    return change.build(lambda name: values.c[name])


def _columns(table: Table, names: tuple[str, ...]) -> Like:
    return tuple((name, table.c[name]) for name in names)


def _unnested(like: Like) -> TableValuedAlias:
    arrays = [bindparam(_parameter(name), type_=ARRAY(_carried(found), dimensions=1)) for name, found in like]
    return func.unnest(*arrays).table_valued(*(column(name, _carried(found)) for name, found in like)).render_derived()


def _carried(like: "Column[Any]") -> TypeEngine[Any]:
    """The type of a column's values on their way. JSON travels as text, which psycopg packs in a tenth of the time."""
    return Text() if isinstance(like.type, SafeJson) else like.type


def _value(given: "ColumnElement[Any]", like: "Column[Any]") -> "ColumnElement[Any]":
    return cast(given, JSONB) if isinstance(like.type, SafeJson) else given


def _parameter(name: str) -> str:
    # The name of a column by itself is reserved for a value of that column.
    return f"all_{name}"


def _arrays(like: Like, rows: Rows) -> dict[str, list[Any]]:
    arrays: dict[str, list[Any]] = {}
    for name, found in like:
        values: list[Any] = [row[name] for row in rows]
        if isinstance(found.type, SafeJson):
            values = [None if value is None else json_text(value) for value in values]
        arrays[_parameter(name)] = values
    return arrays
