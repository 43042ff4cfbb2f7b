"""In a burst, silence is waited for longer; otherwise as long as the source says."""

from datetime import timedelta

import pytest

from worker.pipeline import burst
from worker.pipeline.burst import BUCKET_SECONDS, BURST, LONGER, Bursts

PAUSES = {"yoti": timedelta(seconds=5), "persona": timedelta(seconds=2), "off": timedelta(0)}


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set, in buckets."""
    found = {"now": 1000.0}
    monkeypatch.setattr(burst, "monotonic", lambda: found["now"] * BUCKET_SECONDS)
    return found


@pytest.fixture
def bursts(clock):
    return Bursts(PAUSES)


def tell(bursts, source, count):
    for _ in range(count):
        bursts.note(source)


def test_usually_it_is_the_source_s_own(bursts):
    tell(bursts, "yoti", BURST - 1)

    assert bursts.pauses() == PAUSES


def test_in_a_burst_it_is_longer_and_for_that_source_alone(bursts):
    tell(bursts, "yoti", BURST)
    tell(bursts, "off", BURST)

    assert bursts.pauses() == {**PAUSES, "yoti": PAUSES["yoti"] * LONGER}


def test_a_burst_lasts_until_a_bucket_was_quiet(bursts, clock):
    tell(bursts, "yoti", BURST)
    clock["now"] += 1
    tell(bursts, "yoti", 3)
    assert bursts.pauses()["yoti"] > PAUSES["yoti"]

    clock["now"] += 1
    assert bursts.pauses() == PAUSES


def test_what_is_long_ago_does_not_count(bursts, clock):
    tell(bursts, "yoti", BURST)
    clock["now"] += 2
    bursts.note("yoti")

    assert bursts.pauses() == PAUSES
