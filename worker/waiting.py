"""Waiting: the ways in which requests and calls wait, so that they do not know what they run in.

By default that is a thread, which simply blocks. Whoever runs them in something else hands in its own way.
"""

import math
import select
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
        """Wait until a file is READABLE, WRITABLE or either, and say what of it it may be, or 0 after so many
        seconds."""

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
        """Block until it is."""
        poll = select.poll()
        poll.register(fileno, (wanted & READABLE and select.POLLIN) | (wanted & WRITABLE and select.POLLOUT))
        found = poll.poll(None if timeout is None else math.ceil(max(timeout, 0.0) * 1000))
        # Whoever waits for either hears of an end and of an error as well.
        return wanted if found else 0

    def soon(self, job: Callable[[], object]) -> None:
        """Now."""
        job()


THREADS = Threads()
