"""The one JSON parser. UTF-8 only; no duplicate keys, NaN, infinity, absurd numbers or absurd depth.

Two parsers that read one body differently are a way around authentication, so whatever any reader could take in two
ways is refused here. Lone surrogates and NUL are legal JSON and pass: whoever stores text must replace them.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

import orjson

from worker.errors import UnreadableJson

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
"""No provider nests deeper than 12. Far deeper input only serves to exhaust the parser's stack."""

_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Possessive: a pattern that could go back remembers each character, a gigabyte for an image of ten megabytes."""


LONGEST_QUICK = 1024 * 1024
"""Bytes. To write out what was just read takes as many again."""

_SPACED = b'": '
FIRST_MEMBERS = 100
"""Bytes. Who puts a space behind one of the first keys writes what orjson would not, so it need not be tried."""


def parse(body: bytes) -> Json:
    """The value that `body` holds. Raises UnreadableJson with a reason that quotes nothing of the body."""
    _refuse_depth(body)
    if len(body) <= LONGEST_QUICK and _SPACED not in body[:FIRST_MEMBERS]:
        with suppress(orjson.JSONDecodeError):
            quick: Json = orjson.loads(body)
            # What is written out again in the same bytes can be read in one way only: no key stood there twice, and no
            # number was more than it is taken for. Whoever writes otherwise is read by the parser that knows why.
            if orjson.dumps(quick) == body:
                return quick
    return _parse_slowly(body)


def _parse_slowly(body: bytes) -> Json:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableJson("the body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise UnreadableJson("the body begins with a byte order mark")
    try:
        value: Json = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise UnreadableJson(f"not JSON at character {error.pos}") from None
    except ValueError as error:
        raise UnreadableJson(str(error)) from None
    except RecursionError:
        raise UnreadableJson("nested too deep") from None
    return value


def parse_object(body: bytes) -> dict[str, Json]:
    """Like `parse`, and the value must be an object."""
    value = parse(body)
    if not isinstance(value, dict):
        raise UnreadableJson("the body is JSON, but not an object")
    return value


def canonical(value: Json, *, exponents: bool = True) -> bytes:
    """One byte string for equal values, whatever their key order was; for digests, not for people.

    The digests of all versions ever stored are of these bytes. A value without numbers that Python writes with
    `exponents` is written several times as fast.
    """
    if not exponents:
        # Lone surrogates and integers of more than 64 bits are not for orjson, and what is not printable ASCII it does
        # not escape. All else it writes as the standard library does.
        with suppress(orjson.JSONEncodeError):
            text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            if text.isascii() and b"\x7f" not in text:
                return text
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _refuse_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRUCTURE.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise UnreadableJson(f"nested deeper than {MAX_DEPTH}")
        elif token in (b"]", b"}"):
            depth -= 1


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same key twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > 300:
        raise ValueError("a number is too large")
    return int(text)


def _no_constant(_text: str) -> float:
    raise ValueError("NaN and infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_finite, parse_int=_integer, parse_constant=_no_constant
)


def member(value: Json, *path: str) -> Json:
    """The value below `value` at `path`, or None where any step is missing or no object."""
    for name in path:
        # A dictionary is told by its type; whether something is a mapping takes a search.
        if type(value) is not dict and not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def text(value: Json, *path: str) -> str | None:
    """The non-empty string at `path`, or None."""
    found = value.get(path[0]) if len(path) == 1 and type(value) is dict else member(value, *path)
    return found if isinstance(found, str) and found else None


def number(value: Json, *path: str) -> float | None:
    """The number at `path`, or None. Booleans are no numbers; integers beyond a float's range are None."""
    found = member(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found)
    except OverflowError:
        return None


def objects(value: Json, *path: str) -> list[dict[str, Json]]:
    """The objects in the list at `path`; whatever else the list holds is left out."""
    found = member(value, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def strings(value: Json, *path: str) -> tuple[str, ...]:
    """The strings in the list at `path`; whatever else the list holds is left out."""
    found = member(value, *path)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()
