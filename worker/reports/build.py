"""From the store's records to the rows of the reports, and from those to JSON text."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from worker.store.query import Record

Row = TypeVar("Row")


def each(make: Callable[..., Row], records: Iterable[Record]) -> tuple[Row, ...]:
    """A row of each record, whose names are those of the row's fields."""
    return tuple(make(**record) for record in records)


def one(make: Callable[..., Row], record: Record | None) -> Row | None:
    """A row of the record, if there is one."""
    return None if record is None else make(**record)


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC, with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON in ASCII, of anything made of rows, times, ids and plain values."""
    return json.dumps(value, default=_plain, indent=indent, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")
