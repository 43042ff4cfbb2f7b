"""Waiting: the two ways in which the receiver waits, so that it does not know what a request runs in.

By default that is a thread, which simply blocks. A server whose requests are not threads hands in its own way.
"""

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Event(Protocol):
    """What `threading.Event` promises, as far as it is used."""

    def is_set(self) -> bool:
        """Whether it has happened."""

    def set(self) -> None:
        """It has happened. Any thread may say so."""

    def wait(self, timeout: float) -> bool:
        """Wait up to so many seconds, and say whether it has happened."""


class Waiter(Protocol):
    """How whoever calls may wait."""

    def event(self) -> Event:
        """An event on which only the caller will wait."""

    def aside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises, which may block for long."""


class Threads:
    """The caller has a thread of its own."""

    def event(self) -> Event:
        """A thread's event."""
        return threading.Event()

    def aside(self, function: Callable[[], Result]) -> Result:
        """Nobody else is held up, so it is called here."""
        return function()


THREADS = Threads()
