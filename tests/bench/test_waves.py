"""What the scaling benchmarks are made of: rates of work that comes in waves, a burst that is counted, another host."""

import random
import subprocess
from contextlib import contextmanager

import pytest

from bench import __main__ as command
from bench.children import started
from bench.protocol import Broken, Scenario, Unavailable
from bench.runner import Outcome
from bench.scenarios.registry import SCENARIOS
from bench.second_host import HERE, THERE, SecondHost, second_host
from bench.waves import CALLS, LATENCY_SECONDS, LIMIT, await_full, once, slope
from tests.support.processes import eventually

SLEEP = ["sleep", "120"]


def waves(rng: random.Random, seconds: float) -> tuple[list[float], list[float]]:
    """What is seen of one process: each wave lands within some milliseconds, and is looked at at any time."""
    phase = rng.uniform(0, LATENCY_SECONDS)
    landed = [
        number * LATENCY_SECONDS + rng.uniform(0, 0.02) - phase
        for number in range(int(seconds / LATENCY_SECONDS) + 3)
        for _ in range(CALLS)
    ]
    looks = [number * 0.02 for number in range(int(seconds / 0.02))]
    return looks, [float(sum(0 <= at <= look for at in landed)) for look in looks]


def test_waves_are_measured_wherever_the_looks_fall():
    rng = random.Random(4)
    found = [slope(*waves(rng, 3.5)) / LIMIT for _ in range(40)]

    assert max(abs(share - 1) for share in found) < 0.06
    assert abs(sum(found) / len(found) - 1) < 0.02


def test_nothing_done_is_no_rate():
    with pytest.raises(Broken, match="no results"):
        slope([0.0, 1.0, 2.0], [0.0, 0.0, 0.0])


def test_it_is_waited_until_all_calls_are_in_flight(tmp_path):
    seen = iter([0.0, 3.0, 2.0 * CALLS])
    with started("worker", SLEEP, tmp_path, {}) as worker:
        await_full(lambda: next(seen), 2, [worker])

    assert list(seen) == []

    with pytest.raises(Broken, match="a worker ended"):
        await_full(lambda: 1.0, 2, [worker])


def test_a_machine_without_room_for_all_calls_is_measured_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.waves.STALL_SECONDS", 0.2)
    monkeypatch.setattr("bench.waves.START_SECONDS", 0.5)
    with started("worker", SLEEP, tmp_path, {}) as worker:
        await_full(lambda: 5.0, 2, [worker])
        with pytest.raises(Broken, match="called nobody"):
            await_full(lambda: 0.0, 2, [worker])


def test_a_quick_run_measures_once():
    rates = iter([1.0, 2.0])
    measured = once(lambda: {"rate_per_s": next(rates)})

    assert [measured(), measured()] == [{"rate_per_s": 1.0}] * 2
    assert next(rates) == 2.0


def test_what_no_machine_has_to_give_may_be_skipped(monkeypatch):
    def skipped(optional: bool) -> Outcome:
        def nobody(_stage):
            raise Unavailable("not here")

        return Outcome(Scenario("example", "Something.", (), nobody, optional), skipped="not here")

    monkeypatch.setenv("VERISINK_REQUIRE_SERVICES", "1")

    assert command._status([skipped(optional=True)]) == 0
    assert command._status([skipped(optional=False)]) == 1
    assert [scenario.name for scenario in SCENARIOS if scenario.optional] == ["scale-hosts"]


@contextmanager
def another_host():
    """A second host, where one can be made: that takes root and network namespaces, which few machines of developers
    give. There is nothing to install for it, so the tests that need one are skipped with the reason."""
    try:
        with second_host() as made:
            yield made
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
def host():
    with another_host() as made:
        yield made


def spoken(host: SecondHost) -> str:
    return subprocess.run(host.command("ip", "-brief", "address"), check=True, capture_output=True, text=True).stdout


def test_another_host_has_its_own_addresses_and_reaches_this_one(host):
    found = spoken(host)

    assert THERE in found
    assert HERE not in found
    # An interface takes a moment until it carries anything.
    probe = host.command("ip", "route", "get", HERE)
    eventually(lambda: subprocess.run(probe, check=False, capture_output=True).returncode == 0, "a way to this host")


def test_another_host_is_gone_afterwards():
    with another_host() as made:
        name = made.namespace

    left = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert name not in left.split()
    shown = subprocess.run(["ip", "-brief", "link"], check=True, capture_output=True, text=True).stdout
    assert name not in shown
