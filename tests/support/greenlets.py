"""Runs what a test does in a greenlet, as retrieve calls run."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import pytest

from worker.pipeline.calls import Calls
from worker.waiting import THREADS, Waiter

PATIENCE = 30.0

Result = TypeVar("Result")


class Way(Protocol):
    """What calls run in."""

    waiter: Waiter

    def run(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises."""


class InThread:
    """The test's own thread."""

    waiter: Waiter = THREADS

    def run(self, function: Callable[[], Result]) -> Result:
        return function()


class InGreenlet:
    """A greenlet for each."""

    def __init__(self) -> None:
        self.calls = Calls()
        self.waiter: Waiter = self.calls.waiter

    def run(self, function: Callable[[], Result]) -> Result:
        return self.begin(function).result(PATIENCE)

    def begin(self, function: Callable[[], Result]) -> "Future[Result]":
        """The same, not waited for."""
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it belongs to the test
                future.set_exception(error)

        self.calls.start([job])
        return future


@contextmanager
def greenlets() -> Iterator[InGreenlet]:
    way = InGreenlet()
    try:
        yield way
    finally:
        way.calls.close()


ways: list[Way] = [InThread()]
"""The last is the one that the test at hand runs in."""


@pytest.fixture(params=["thread", "greenlet"], autouse=True)
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Import it, and each test of a module runs once in each."""
    if request.param == "thread":
        yield
        return
    with greenlets() as way:
        ways.append(way)
        yield
        ways.pop()
