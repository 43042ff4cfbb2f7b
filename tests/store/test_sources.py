"""What is known of a source at run time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.store.play import EARLY, LATE, OTHER, SOURCE
from worker.store import sources
from worker.store.sources import SourceState

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        (SourceState(SOURCE), None),
        (SourceState(SOURCE, throttled_until=EARLY + MINUTE), 0),
        (SourceState(SOURCE, throttled_until=EARLY), None),
        (SourceState(SOURCE, held_at=EARLY), 0),
        (SourceState(SOURCE, held_at=EARLY, probe_at=EARLY + MINUTE), 0),
        (SourceState(SOURCE, held_at=EARLY, probe_at=EARLY), 1),
        (SourceState(SOURCE, held_at=EARLY, probe_at=EARLY, throttled_until=EARLY + MINUTE), 1),
    ],
)
def test_how_many_calls_may_be_made(state, calls):
    assert state.may_call(EARLY) == calls


def test_a_source_that_was_never_in_trouble_has_no_row(database):
    with database.read() as session:
        assert sources.states(session) == {}
        assert sources.state(session, SOURCE) == SourceState(SOURCE)


def test_the_later_end_of_a_throttle_stays(database):
    for until in (EARLY, LATE, EARLY + MINUTE):
        with database.write() as session:
            sources.throttle(session, SOURCE, until)

    with database.read() as session:
        assert sources.states(session)[SOURCE].throttled_until == LATE
        assert OTHER not in sources.states(session)


def test_only_one_takes_the_right_to_probe(database):
    with database.write() as session:
        sources.hold(session, SOURCE, "401", now=EARLY, probe_at=EARLY)

    def probe(_):
        with database.write() as session:
            return sources.postpone_probe(session, SOURCE, LATE)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(probe, range(6))) == 1
    with database.read() as session:
        assert sources.state(session, SOURCE).probe_at == LATE


def test_there_is_no_right_to_probe_what_an_operator_holds(database):
    with database.write() as session:
        sources.hold(session, SOURCE, "why", now=EARLY, probe_at=None)
        assert sources.postpone_probe(session, SOURCE, LATE) is False
        assert sources.postpone_probe(session, OTHER, LATE) is False


def test_holding_at_once_counts_once(database):
    def hold(_):
        with database.write() as session:
            return sources.hold(session, SOURCE, "401", now=EARLY, probe_at=LATE)

    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(hold, range(6)))

    assert sorted(number for number in numbers if number is not None) == [1]
