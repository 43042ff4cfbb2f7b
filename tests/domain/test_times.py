"""Providers' timestamps, however they write them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.times import read_time

MOMENT = datetime(2025, 11, 21, 9, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2025-11-21T09:30:15Z",
        "2025-11-21T09:30:15.000Z",
        "2025-11-21T09:30:15+00:00",
        "2025-11-21T04:30:15-05:00",
        "2025-11-21 09:30:15",
        "2025-11-21T09:30:15",
        "20251121T093015Z",
        1763717415,
        1763717415.0,
    ],
)
def test_one_moment(value):
    found = read_time(value)

    assert found == MOMENT
    assert found is not None
    assert found.tzinfo is UTC


def test_fractions_and_dates():
    assert read_time("2025-11-21T09:30:15.123456Z") == MOMENT.replace(microsecond=123456)
    assert read_time("2025-11-21") == datetime(2025, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [None, True, False, "", "now", "2025", "2025-13-01", "2025-11-21T25:00:00Z", "21.11.2025", "x" * 41,
     "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 10**18, -(10**18), 1e300, 10**400, [], {}],
)  # fmt: skip
def test_no_time(value):
    assert read_time(value) is None


@given(st.text(max_size=45) | st.integers() | st.floats() | st.dates().map(str) | st.datetimes().map(str))
def test_whatever_comes_is_an_aware_time_or_nothing(value):
    found = read_time(value)

    assert found is None or found.tzinfo is UTC
