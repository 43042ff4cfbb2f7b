"""What the readers' queries share: rows leave the store as plain mappings, whose names `worker.reports` relies on."""

from collections.abc import Mapping
from typing import TypeAlias

from sqlalchemy import Executable, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from worker.store.engine import Session

Record: TypeAlias = Mapping[str, object]


class unindexed(FunctionElement[str]):
    """A column that SQLite may not look up by an index. It keeps no statistics, and would read every row of a source,
    and sort them all, rather than walk along the order that is asked for. PostgreSQL knows better by itself."""

    type = String()
    inherit_cache = True


@compiles(unindexed)
def _plain(element: unindexed, compiler: SQLCompiler, **kw: object) -> str:
    return compiler.process(element.clauses)


@compiles(unindexed, "sqlite")
def _without_index(element: unindexed, compiler: SQLCompiler, **kw: object) -> str:
    return "+" + compiler.process(element.clauses)


def records(session: Session, statement: Executable) -> list[Record]:
    """All rows of `statement`, by column name."""
    return [dict(row) for row in session.execute(statement).mappings()]


def record(session: Session, statement: Executable) -> Record | None:
    """The only row of `statement`, or None."""
    row = session.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)
