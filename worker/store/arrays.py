"""Columns of values as PostgreSQL's arrays, in its binary form.

psycopg finds out what each list holds, and asks a dumper for one value after the other. Of a column the type is known,
so it takes a third of the time.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import AdaptContext
    from psycopg.pq import Format

_HEAD = Struct("!iiiii").pack
_LENGTH = Struct("!i").pack
_LENGTHS = tuple(_LENGTH(length) for length in range(256))
_BIGINT = Struct("!iq").pack
_INTEGER = Struct("!ii").pack
_SMALLINT = Struct("!ih").pack
_DOUBLE = Struct("!id").pack
_TRUTHS = {False: b"\x00\x00\x00\x01\x00", True: b"\x00\x00\x00\x01\x01"}
_NULL = b"\xff\xff\xff\xff"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
"""PostgreSQL's times are whole numbers of these since that day."""

_JSONB = b"\x01"
"""The one format that there is: text follows."""

Value = TypeVar("Value")


class Array:
    """An array of one dimension, as it is sent. Its class says of what."""

    oid: ClassVar[int]
    element_oid: ClassVar[int]
    """Numbers of PostgreSQL's own types, which are the same in each database."""

    __slots__ = ("data",)

    def __init__(self, elements: Iterable[bytes], count: int) -> None:
        # With its number of dimensions, that there may be NULLs, and where counting begins; an empty one has none.
        head = _HEAD(1, 1, self.element_oid, count, 1) if count else _HEAD(0, 0, self.element_oid, 0, 0)[:12]
        self.data = b"".join((head, *elements))


class _Booleans(Array):
    oid, element_oid = 1000, 16
    __slots__ = ()


class _Bytes(Array):
    oid, element_oid = 1001, 17
    __slots__ = ()


class _Smallints(Array):
    oid, element_oid = 1005, 21
    __slots__ = ()


class _Integers(Array):
    oid, element_oid = 1007, 23
    __slots__ = ()


class _Texts(Array):
    oid, element_oid = 1009, 25
    __slots__ = ()


class _Bigints(Array):
    oid, element_oid = 1016, 20
    __slots__ = ()


class _Doubles(Array):
    oid, element_oid = 1022, 701
    __slots__ = ()


class _Times(Array):
    oid, element_oid = 1185, 1184
    __slots__ = ()


class _Uuids(Array):
    oid, element_oid = 2951, 2950
    __slots__ = ()


class _Jsons(Array):
    oid, element_oid = 3807, 3802
    __slots__ = ()


_KINDS = (_Booleans, _Bytes, _Smallints, _Integers, _Texts, _Bigints, _Doubles, _Times, _Uuids, _Jsons)


def booleans(values: Sequence[bool | None]) -> Array:
    """`boolean[]`."""
    return _array(_Booleans, values, lambda some: [_NULL if value is None else _TRUTHS[value] for value in some])


def smallints(values: Sequence[int | None]) -> Array:
    """`smallint[]`. Raises struct.error for a number that is too large, as do the larger kinds."""
    return _array(_Smallints, values, lambda some: [_NULL if value is None else _SMALLINT(2, value) for value in some])


def integers(values: Sequence[int | None]) -> Array:
    """`integer[]`."""
    return _array(_Integers, values, lambda some: [_NULL if value is None else _INTEGER(4, value) for value in some])


def bigints(values: Sequence[int | None]) -> Array:
    """`bigint[]`."""
    return _array(_Bigints, values, lambda some: [_NULL if value is None else _BIGINT(8, value) for value in some])


def doubles(values: Sequence[float | None]) -> Array:
    """`double precision[]`."""
    return _Doubles([_NULL if value is None else _DOUBLE(8, value) for value in values], len(values))


def texts(values: Sequence[str | None]) -> Array:
    """`text[]`. Raises UnicodeEncodeError for lone surrogates, which must be replaced before."""
    return _array(
        _Texts, values, lambda some: _with_lengths([None if value is None else value.encode() for value in some])
    )


def times(values: Sequence[datetime | None]) -> Array:
    """`timestamptz[]`, of aware times."""
    return _array(_Times, values, _times)


def uuids(values: Sequence[uuid.UUID | None]) -> Array:
    """`uuid[]`."""
    return _array(
        _Uuids, values, lambda some: _with_lengths([None if value is None else value.bytes for value in some])
    )


def binaries(values: Sequence[bytes | None]) -> Array:
    """`bytea[]`."""
    return _Bytes(_with_lengths(values), len(values))


def jsons(values: Sequence[bytes | None]) -> Array:
    """`jsonb[]`, of JSON in UTF-8."""
    return _Jsons(_with_lengths([None if value is None else _JSONB + value for value in values]), len(values))


def _array(kind: type[Array], values: Sequence[Value], write: Callable[[Sequence[Value]], list[bytes]]) -> Array:
    """An array of values of which equal ones are written alike."""
    if values and values.count(values[0]) == len(values):
        # So it is with most columns of what is written together.
        return kind(write(values[:1]) * len(values), len(values))
    return kind(write(values), len(values))


def _times(values: Sequence[datetime | None]) -> list[bytes]:
    return [_NULL if value is None else _BIGINT(8, (value - _EPOCH) // _MICROSECOND) for value in values]


def _with_lengths(values: Sequence[bytes | None]) -> list[bytes]:
    pieces: list[bytes] = []
    for value in values:
        if value is None:
            pieces.append(_NULL)
        else:
            length = len(value)
            pieces += (_LENGTHS[length] if length < len(_LENGTHS) else _LENGTH(length), value)
    return pieces


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
    for kind in _KINDS:
        dumper = type(f"{kind.__name__}Dumper", (_Dumper,), {"oid": kind.oid, "format": binary})
        connection.adapters.register_dumper(kind, dumper)
