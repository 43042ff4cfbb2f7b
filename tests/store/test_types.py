"""Bytes from outside are there again byte for byte."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.store.types import COMPRESS_FROM, packed, unpacked


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
