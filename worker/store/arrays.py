"""Columns of values as PostgreSQL's arrays, in its binary form.

psycopg finds out what each list holds, and asks a dumper for one value after the other. Of a column the type is known,
so it takes a third of the time.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import AdaptContext
    from psycopg.pq import Format

_HEAD = Struct("!iiiii").pack
_LENGTH = Struct("!i").pack
_BIGINT = Struct("!q").pack
_NULL = b"\xff\xff\xff\xff"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
"""PostgreSQL's times are whole numbers of these since that day."""


class Array:
    """An array of one dimension, as it is sent. Its class says of what."""

    oid: ClassVar[int]
    element_oid: ClassVar[int]
    """Numbers of PostgreSQL's own types, which are the same in each database."""

    __slots__ = ("data",)

    def __init__(self, values: Iterable[bytes | None]) -> None:
        count = nulls = 0
        parts = [b""]
        for value in values:
            count += 1
            if value is None:
                nulls = 1
                parts.append(_NULL)
            else:
                parts += (_LENGTH(len(value)), value)
        # With its number of dimensions, whether there are NULLs, and where counting begins; an empty one has none.
        parts[0] = _HEAD(1, nulls, self.element_oid, count, 1) if count else _HEAD(0, 0, self.element_oid, 0, 0)[:12]
        self.data = b"".join(parts)


class _Texts(Array):
    oid, element_oid = 1009, 25
    __slots__ = ()


class _Uuids(Array):
    oid, element_oid = 2951, 2950
    __slots__ = ()


class _Bytes(Array):
    oid, element_oid = 1001, 17
    __slots__ = ()


class _Times(Array):
    oid, element_oid = 1185, 1184
    __slots__ = ()


def texts(values: Iterable[str | None]) -> Array:
    """`text[]`. Raises UnicodeEncodeError for lone surrogates, which must be replaced before."""
    return _Texts([None if value is None else value.encode() for value in values])


def uuids(values: Iterable[uuid.UUID]) -> Array:
    """`uuid[]`."""
    return _Uuids([value.bytes for value in values])


def binaries(values: Iterable[bytes]) -> Array:
    """`bytea[]`."""
    return _Bytes(values)


def times(values: Iterable[datetime | None]) -> Array:
    """`timestamptz[]`, of aware times."""
    return _Times([None if value is None else _BIGINT((value - _EPOCH) // _MICROSECOND) for value in values])


class _Dumper:
    """psycopg's way to a parameter, which is there already."""

    format: "Format"
    oid = 0

    def __init__(self, cls: type, context: "AdaptContext | None" = None) -> None:
        self._cls = cls

    def dump(self, obj: Array) -> bytes:
        return obj.data

    def quote(self, obj: Array) -> bytes:
        raise NotImplementedError("arrays are sent as parameters, and never written into a statement")

    def get_key(self, obj: Array, format: object) -> type:
        return self._cls

    def upgrade(self, obj: Array, format: object) -> "_Dumper":
        return self


def teach(connection: "psycopg.Connection[object]", binary: "Format") -> None:
    """Let a connection take arrays as parameters. `binary` is psycopg's word for its format."""
    for kind in (_Texts, _Uuids, _Bytes, _Times):
        dumper = type(f"{kind.__name__}Dumper", (_Dumper,), {"oid": kind.oid, "format": binary})
        connection.adapters.register_dumper(kind, dumper)
