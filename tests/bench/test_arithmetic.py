"""The arithmetic behind the figures: percentiles, spreads, what a round's two sides give, and how fast a drain was."""

import pytest

from bench.drain import Look
from bench.drain import sample as drained
from bench.pgbench import read_output
from bench.protocol import Bar, Broken, difference, ratio, value
from bench.scenarios.overload import growth
from bench.statistics import Spread, percentile, spread

ROUND = {"ours": {"rate": 30.0, "p50_ms": 5.0}, "reference": {"rate": 120.0, "p50_ms": 3.5, "nothing": 0.0}}
PGBENCH = """\
transaction type: insert.sql
number of transactions actually processed: 30123
latency average = 3.187 ms
initial connection time = 21.511 ms
tps = 10041.123456 (without initial connection time)
"""


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (1, 1.0), (50, 50.0), (50.5, 51.0), (99, 99.0), (99.5, 100.0), (100, 100.0)]
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(percent, expected):
    assert percentile([float(number) for number in range(1, 101)], percent) == expected


def test_percentiles_of_few_values():
    assert percentile([], 99) == 0.0
    assert percentile([7.0], 50) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 99) == 2.0


def test_a_spread_has_the_middle_and_both_ends():
    assert spread([3.0, 9.0, 1.0, 4.0, 5.0]) == Spread(4.0, 1.0, 9.0)
    with pytest.raises(ValueError, match="no round"):
        spread([])


def test_figures_compare_two_sides_of_one_round():
    assert ratio("a", ("ours", "rate"), ("reference", "rate")).of(ROUND) == 0.25
    assert difference("b", ("ours", "p50_ms"), ("reference", "p50_ms")).of(ROUND) == 1.5
    assert value("c", ("ours", "p50_ms")).of(ROUND) == 5.0


def test_nothing_is_divided_by_nothing():
    with pytest.raises(Broken, match="reference measured 0 for nothing"):
        ratio("a", ("ours", "rate"), ("reference", "nothing")).of(ROUND)


def test_a_bar_is_reached_from_its_own_side():
    assert [Bar(0.3).reached(found) for found in (0.29, 0.3, 0.31)] == [False, True, True]
    assert [Bar(2, at_least=False).reached(found) for found in (1.9, 2, 2.1)] == [True, True, False]
    assert (str(Bar(0.3)), str(Bar(2, at_least=False))) == ("≥ 0.3", "≤ 2")


def test_what_pgbench_prints_is_read():
    assert read_output(PGBENCH) == (30_123, 10_041.123456, 3.187)
    with pytest.raises(Broken, match="something else"):
        read_output("pgbench: error: no such file")


def test_a_drain_is_measured_between_two_looks():
    first, last = Look(10.0, 100, 5.0, 1.0), Look(12.0, 300, 6.0, 1.2)

    measured = drained(first, last)

    assert measured["rate_per_s"] == 100.0
    assert measured["worker_cpu_ms"] == 5.0
    assert measured["postgres_cpu_ms"] == pytest.approx(1.0)
    with pytest.raises(Broken, match="too few"):
        drained(last, last)


def test_memory_is_flat_when_its_last_third_is_as_its_first():
    assert growth([100, 100, 100, 100, 100, 100]) == 1.0
    assert growth([90, 100, 110, 180, 200, 220]) == pytest.approx(210 / 95)
