"""Bytes from outside are there again byte for byte, and JSON as far as a database can hold it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.store.types import COMPRESS_FROM, json_text, json_value, packed, unpacked


@given(st.binary(max_size=600), st.integers(1, 40))
@example(b"\x00", 1)
@example(b"\x00z", 1)
@example(b"\x00=", 300)
@example(packed(b"x" * COMPRESS_FROM), 1)
@example(packed(b"\x00 that"), 1)
def test_what_is_unpacked_is_what_was_packed(body: bytes, times: int) -> None:
    assert unpacked(packed(body * times)) == body * times


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * (COMPRESS_FROM - 1)])
def test_short_bodies_are_stored_as_they_are(body: bytes) -> None:
    assert packed(body) == body


def test_long_ones_take_less() -> None:
    assert len(packed(b'{"name":"value"}' * 100)) < 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
@example({"\x00": "\ud800", "a": [2**70, "\\u0000", "\u20ac"]})
def test_json_text_is_the_value_without_what_cannot_be_stored(value):
    text = json_text(value)

    found = json.loads(text.encode())
    assert found == value or unstorable(value)
    assert not unstorable(found)


def unstorable(value) -> bool:
    if isinstance(value, dict):
        return any(unstorable(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(unstorable(item) for item in value)
    return isinstance(value, str) and any(letter == "\x00" or "\ud800" <= letter <= "\udfff" for letter in value)


@given(JSON)
@example([2**63, -(2**63) - 1, 2**64, -(10**18), 10**400, 0.1, 1e-7, 1e16])
def test_what_was_written_is_read_again(value):
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")

    found = json_value(text)

    expected = json.loads(text)
    assert repr(found) == repr(expected)
