"""Ctrl-C, for the commands that go on until it is pressed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed. Raised anywhere, it would come out of a database driver as some other error."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True
        # Whoever presses it again does not want to wait.
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
