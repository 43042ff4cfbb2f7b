"""Waiting: the ways in which the receiver waits, so that it does not know what a request runs in.

By default that is a thread, which simply blocks. A server whose requests are not threads hands in its own way.
"""

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")

READABLE = 1
WRITABLE = 2
"""Added up where a file is waited for."""


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

    def gives_way(self) -> bool:
        """Whether the caller lets others go on while it is in `until_ready`. A thread has nobody to give way to."""

    def until_ready(self, fileno: int, wanted: int, timeout: float | None = None) -> int:
        """Wait until a file is READABLE, WRITABLE or either, and say which, or 0 after so many seconds; for callers
        that give way."""

    def soon(self, job: Callable[[], object]) -> None:
        """Call `job` when the caller has had its turn, or now if it has a thread to itself. It must not raise."""


class Threads:
    """The caller has a thread of its own."""

    def event(self) -> Event:
        """A thread's event."""
        return threading.Event()

    def aside(self, function: Callable[[], Result]) -> Result:
        """Nobody else is held up, so it is called here."""
        return function()

    def gives_way(self) -> bool:
        """Never."""
        return False

    def until_ready(self, fileno: int, wanted: int, timeout: float | None = None) -> int:
        """Not for threads."""
        raise NotImplementedError

    def soon(self, job: Callable[[], object]) -> None:
        """Now."""
        job()


THREADS = Threads()
