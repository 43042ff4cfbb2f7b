"""Column types and SQL functions that mean the same on PostgreSQL and SQLite."""

import json
import re
import zlib
from datetime import UTC, datetime
from typing import Any

import orjson
from isal import isal_zlib
from sqlalchemy import JSON, DateTime, Dialect, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from worker.domain.strict_json import Json

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
NUL_ESCAPE = b"\\u0000"
"""How orjson writes what no text may hold. An escaped backslash may stand before as many; then the walk finds
nothing."""

_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def storable(text: str) -> str:
    """The text with NUL and lone surrogates replaced: legal in JSON, but PostgreSQL holds neither."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def storable_json(value: Json) -> Json:
    """The value with every text in it storable; itself if it is so already, as nearly all are."""
    kept: Json = _storable(value)
    return kept


def _storable(value: Any) -> Any:  # noqa: ANN401 - JSON, of which mypy would want each kind told apart
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return _storable_object(value)
    if isinstance(value, list):
        items = [_storable(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def json_text(value: Json) -> str:
    """The value as JSON text that every database can hold."""
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        # A lone surrogate, or an integer of more than 64 bits.
        return json.dumps(_storable(value))
    return json.dumps(_storable(value)) if NUL_ESCAPE in text else text.decode()


def json_value(text: bytes) -> Json:
    """The value of a JSON text that PostgreSQL wrote."""
    # orjson takes an integer of more than 64 bits for a fraction. Any that long may be one.
    value: Json = json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)
    return value


def _storable_object(value: dict[str, Any]) -> dict[str, Any]:
    new = {name: item for name, old in value.items() if (item := _storable(old)) is not old}
    kept = {**value, **new} if new else value
    if any(storable(name) is not name for name in kept):
        return {storable(name): item for name, item in kept.items()}
    return kept


COMPRESS_FROM = 200
"""Bytes; shorter bodies hardly shrink."""

COMPRESSION = 1
"""Of isal's levels. Webhooks shrink to half with it, and by two more per cent with the slowest of zlib's. PostgreSQL
itself compresses only rows of two kilobytes and more."""

_COMPRESSED = b"\x00z"
_AS_IT_IS = b"\x00="


def packed(body: bytes) -> bytes:
    """The body as it is stored: marked and compressed if that makes it shorter, else as it came."""
    if len(body) >= COMPRESS_FROM:
        shorter = _COMPRESSED + isal_zlib.compress(body, COMPRESSION)
        if len(shorter) < len(body):
            return shorter
    # What begins like a mark gets one, so that everything that is read back is what was stored.
    return _AS_IT_IS + body if body.startswith(b"\x00") else body


def unpacked(stored: bytes) -> bytes:
    """The body of which `packed` made this."""
    if stored.startswith(_COMPRESSED):
        return zlib.decompress(stored[len(_COMPRESSED) :])
    return stored.removeprefix(_AS_IT_IS)


class PackedBytes(TypeDecorator[bytes]):
    """Bytes from outside, which are there again byte for byte, and take less room in between."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        return None if value is None else packed(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        return None if value is None else unpacked(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time: `timestamptz` on PostgreSQL, UTC text that sorts by time on SQLite. Naive times are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone means nothing")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text from outside: what a database cannot hold is replaced on the way in, so that no value can poison a row."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class SafeJson(TypeDecorator[Json]):
    """JSONB on PostgreSQL, JSON text on SQLite; unstorable text in it is replaced. Python's None is SQL's NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> JSON:
        return JSONB(none_as_null=True) if dialect.name == "postgresql" else JSON(none_as_null=True)

    def process_bind_param(self, value: Json, dialect: Dialect) -> Json:
        return storable_json(value)


class db_now(FunctionElement[datetime]):
    """The database's clock. No other clock decides about leases and due times."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(db_now, "postgresql")
def _db_now_postgresql(element: db_now, compiler: SQLCompiler, **kw: object) -> str:
    return "clock_timestamp()"


@compiles(db_now, "sqlite")
def _db_now_sqlite(element: db_now, compiler: SQLCompiler, **kw: object) -> str:
    # Three zeros make the text as long as the ones that SQLAlchemy writes, so that comparing texts compares times.
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
