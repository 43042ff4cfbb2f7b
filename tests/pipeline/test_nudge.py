"""Nudges never make anybody wait, and losing one is nothing."""

import threading
import time

import pytest

from worker.clock import monotonic
from worker.pipeline import nudge
from worker.pipeline.nudge import Nudger

WAIT = 5.0


class Bell:
    """Notes who rang. While `hung`, it behaves like a broker that does not answer; told to, like one that refuses."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.entered = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.refusing = False

    def ring(self, source):
        self.entered.set()
        self.free.wait(WAIT)
        self.rung.append(source)
        if self.refusing:
            raise ConnectionError("amqp://user:canary@broker")


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def nudger(bell):
    made = Nudger(bell.ring)
    yield made
    bell.free.set()
    made.stop(WAIT)


def test_a_nudge_rings(bell, nudger):
    nudger.start()
    nudger.nudge("a")
    nudger.stop(WAIT)

    assert bell.rung == ["a"]


def test_nudges_that_wait_together_are_one(bell, nudger):
    bell.free.clear()
    nudger.start()
    nudger.nudge("first")
    assert bell.entered.wait(WAIT)
    for _ in range(1000):
        nudger.nudge("b")
        nudger.nudge("a")
    bell.free.set()
    nudger.stop(WAIT)

    assert bell.rung == ["first", "a", "b"]


def test_a_flood_rings_a_few_times(bell, nudger, monkeypatch):
    monkeypatch.setattr(nudge, "PAUSE", 0.2)
    nudger.start()
    began = monotonic()
    for _ in range(1000):
        nudger.nudge("a")
        time.sleep(0.0002)
    took = monotonic() - began
    nudger.stop(WAIT)

    assert 1 <= len(bell.rung) <= took / 0.2 + 2


def test_a_bell_that_hangs_lets_nobody_wait(bell, nudger):
    bell.free.clear()
    nudger.start()
    nudger.nudge("a")
    assert bell.entered.wait(WAIT)

    began = monotonic()
    for _ in range(1000):
        nudger.nudge("b")
    nudger.stop(0.05)

    assert monotonic() - began < 1


def test_a_bell_that_refuses_is_no_end(bell, nudger, capsys):
    bell.refusing = True
    nudger.start()
    nudger.nudge("a")
    while not bell.rung:
        threading.Event().wait(0.001)
    bell.refusing = False
    nudger.nudge("b")
    nudger.stop(WAIT)

    assert bell.rung == ["a", "b"]
    assert "canary" not in capsys.readouterr().out


def test_nudges_before_the_start_are_kept(bell, nudger):
    nudger.nudge("a")
    nudger.start()
    nudger.stop(WAIT)

    assert bell.rung == ["a"]


def test_stopping_what_was_never_started(nudger):
    nudger.nudge("a")
    nudger.stop()
