"""The folder in which the processes below a supervisor count together, so that one scrape shows all of them.

Each child has files under its own name, mapped into its memory. Whoever answers a scrape adds them up. What a child
counted stays when it dies, and its successor goes on with it; the gauges of a dead child are removed.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog
from prometheus_client.multiprocess import mark_process_dead

from worker.settings import counting_environment

PREFIX = "verisink-metrics-"
LOCK = "lock"

YOUNG_SECONDS = 60.0
"""A folder so young may belong to a supervisor that has made it and has not locked it yet."""

log = structlog.get_logger(__name__)


class CountingFolder:
    """The folder of one supervisor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, name: str) -> dict[str, str]:
        """The environment for the child of this name, of which there must be one at a time."""
        return counting_environment(self.path, name)

    def bury(self, name: str) -> None:
        """The child is dead: its gauges say nothing any more, and its counters stay."""
        mark_process_dead(name, str(self.path))  # type: ignore[no-untyped-call]


@contextmanager
def counting_folder(*, wanted: bool) -> Iterator[CountingFolder | None]:
    """A folder for the body's duration, or None where it is not wanted, or no temporary folder can be written: then
    each process counts for itself, as a line in the log says."""
    try:
        made = Path(tempfile.mkdtemp(prefix=PREFIX)) if wanted else None
    except OSError as error:
        log.warning("metrics_not_shared", error=type(error).__name__)
        made = None
    if made is None:
        yield None
        return
    with (made / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_orphans(made)
        try:
            yield CountingFolder(made)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _remove_orphans(made: Path) -> None:
    """Remove what supervisors left behind that were killed. The lock of a living one is held, wherever it runs."""
    for folder in made.parent.glob(f"{PREFIX}*"):
        try:
            info = folder.lstat()
            if folder == made or info.st_uid != os.getuid() or info.st_mtime > made.stat().st_mtime - YOUNG_SECONDS:
                continue
            with (folder / LOCK).open("rb") as lock:
                if _is_free(lock):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Somebody else removed it, or it is not what it looks like.
            continue


def _is_free(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
