"""How the values of a column become an array for PostgreSQL: which form, and what they need before they are stored."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, TypeAlias

import orjson
from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, SmallInteger, String, Uuid
from sqlalchemy.types import TypeEngine

from worker.store.arrays import (
    Array,
    bigints,
    binaries,
    booleans,
    doubles,
    integers,
    jsons,
    smallints,
    texts,
    times,
    uuids,
)
from worker.store.types import NUL_ESCAPE, PackedBytes, SafeJson, SafeText, UtcDateTime, json_text, packed, storable

Packing: TypeAlias = Callable[[Sequence[Any]], Array]
"""Makes an array of the values of a column, of which any may be None."""


def packing(kind: TypeEngine[Any]) -> Packing:
    """The packing for a column of this type. Raises TypeError for a type that has none yet."""
    for known, pack in _PACKINGS:
        if isinstance(kind, known):
            return pack
    raise TypeError(f"nobody has said how values of {kind!r} are packed")


def _texts(values: Sequence[str | None]) -> Array:
    # Looked at once for all of them: hardly any needs mending.
    whole = "".join([value for value in values if value])
    if whole.isascii() and "\x00" not in whole:
        return texts(values)
    return texts([None if value is None else storable(value) for value in values])


def _doubles(values: Sequence[float | None]) -> Array:
    # Neither SQLite nor JSON holds what is no number.
    return doubles([value if value is not None and isfinite(value) else None for value in values])


def _jsons(values: Sequence[Any]) -> Array:
    with suppress(orjson.JSONEncodeError):
        written = [None if value is None else orjson.dumps(value) for value in values]
        if not any(NUL_ESCAPE in text for text in written if text is not None):
            return jsons(written)
    return jsons([None if value is None else json_text(value).encode() for value in values])


def _bodies(values: Sequence[bytes | None]) -> Array:
    return binaries([None if value is None else packed(value) for value in values])


# SQLAlchemy's small and large integers are kinds of its Integer.
_PACKINGS: tuple[tuple[type[TypeEngine[Any]], Packing], ...] = (
    (SafeText, _texts),
    (String, _texts),
    (UtcDateTime, times),
    (SmallInteger, smallints),
    (BigInteger, bigints),
    (Integer, integers),
    (Boolean, booleans),
    (SafeJson, _jsons),
    (Float, _doubles),
    (PackedBytes, _bodies),
    (LargeBinary, binaries),
    (Uuid, uuids),
)
