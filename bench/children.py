"""Programs that a scenario starts, and their sure end."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.processes import tree
from tests.support.processes import Child

GRACE_SECONDS = 15.0
"""For a program that ends in order: its work is done when it is asked to."""

ORPHAN_SECONDS = 1.0
"""For what is still there below a program that has ended, and that nobody will end any more."""


@contextmanager
def started(name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Child]:
    """A program with these variables besides this process's own; asked to end, and killed with all below it if not."""
    child = Child(name, command, folder, {**os.environ, **environ})
    try:
        yield child
    finally:
        end(child)


def end(child: Child) -> None:
    """Let a program and all below it end."""
    family = tree(child.pid)
    if child.alive():
        child.process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.process.wait(GRACE_SECONDS)
    _, left = psutil.wait_procs(family, timeout=ORPHAN_SECONDS)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left)
    child.process.wait()


def listens(port: int) -> bool:
    """Whether anybody takes connections on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
