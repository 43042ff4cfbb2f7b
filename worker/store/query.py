"""What the readers' queries share: rows leave the store as plain mappings, whose names `worker.reports` relies on."""

from collections.abc import Mapping
from typing import TypeAlias

from sqlalchemy import Executable

from worker.store.engine import Session

Record: TypeAlias = Mapping[str, object]


def records(session: Session, statement: Executable) -> list[Record]:
    """All rows of `statement`, by column name."""
    return [dict(row) for row in session.execute(statement).mappings()]


def record(session: Session, statement: Executable) -> Record | None:
    """The only row of `statement`, or None."""
    row = session.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)
