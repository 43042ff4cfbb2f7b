"""The file sink: each event is a line of JSON, in a file that others rotate, or on standard output.

A batch counts as taken once the disk has it. What was written of a batch that failed is taken back, and what a crash
left of a line is closed with a line break, so that every event stands on a line of its own.
"""

import errno
import fcntl
import json
import os
import select
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.clock import monotonic
from worker.settings import SinkSettings
from worker.sinks.base import CannotDeliver, CloudEvent

STANDARD_OUTPUT = 1
MODE = 0o600
"""Events name resources and verdicts: the file is its owner's. One that is there keeps the mode that it has."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A disk, a quota, or a limit of the process is used up."""

PIPE_BYTES = 4096
"""A pipe that can be written to takes so much at once on every system that matters here."""

PIPE_SECONDS = 4.0
"""How long whoever reads our standard output may pause."""


class NotAFile(Exception):
    """The path leads to something that is no ordinary file."""


class DiskFull(OSError):
    """There is no room for a whole batch."""


class ReaderAway(Exception):
    """Nobody reads our standard output any more, or not fast enough."""


def file_sink(name: str, settings: SinkSettings) -> "FileSink | OutputSink":
    """The sink for the configured path."""
    if settings.path is None:
        raise ValueError("a file sink needs a path")
    return OutputSink(name) if settings.path == "-" else FileSink(name, Path(settings.path))


class FileSink:
    """Appends to a file, and opens it anew when it was moved away."""

    at_once = 100
    call_seconds = 5.0
    """A disk is either faster by far, or in trouble."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._file: int | None = None

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Append all of them or none. Raises OSError, and NotAFile."""
        try:
            file = self._current()
            with _locked(file):
                _append(file, _lines(events))
        except BaseException:
            # After an fsync that failed, nobody knows what the disk has. A new start knows.
            self.close()
            raise

    def check(self) -> str:
        """Whether the file can be written to; it is not made. Raises CannotDeliver."""
        folder = self._path.parent
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise CannotDeliver(f"{folder} is no folder that may be written", "make it, or change the sink's path")
        if self._path.exists() and not (self._path.is_file() and os.access(self._path, os.R_OK | os.W_OK)):
            why = f"{self._path} is no file that may be read and written"
            raise CannotDeliver(why, "give it to the user that the workers run as, or change the sink's path")
        return f"{self._path} can be written"

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _current(self) -> int:
        """The file that has the path now."""
        if self._file is not None and not _is_at(self._file, self._path):
            self.close()
        if self._file is None:
            # Without blocking: a named pipe that nobody reads would keep us here.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(self._path, flags, MODE)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise NotAFile
            _sync_folder(self._path.parent)
        return self._file


class OutputSink:
    """Writes to standard output, for a container's log or the next program of a pipe."""

    at_once = 100
    call_seconds = PIPE_SECONDS + 1

    def __init__(self, name: str, *, output: int = STANDARD_OUTPUT) -> None:
        self.name = name
        self._output = output
        self._torn = False

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Write the events' lines. What a pipe has taken cannot be taken back, so a reader may see half a line; it is
        ended before the next one begins. Raises ReaderAway and OSError."""
        lines = (b"\n" if self._torn else b"") + _lines(events)
        self._torn = True
        end = monotonic() + PIPE_SECONDS
        while lines:
            _, ready, _ = select.select([], [self._output], [], max(end - monotonic(), 0))
            if not ready:
                raise ReaderAway
            lines = lines[os.write(self._output, lines[:PIPE_BYTES]) :]
        self._torn = False

    def close(self) -> None:
        """Standard output is not ours to close."""


def _lines(events: Sequence[CloudEvent]) -> bytes:
    # In ASCII: U+2028 ends a line for some readers.
    return b"".join(json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n" for event in events)


def _append(file: int, lines: bytes) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    try:
        if (written := os.write(file, lines)) != len(lines):
            raise DiskFull(errno.ENOSPC, f"{written} of {len(lines)} bytes were written")
        os.fsync(file)
    except BaseException as error:
        with suppress(OSError):
            os.ftruncate(file, size)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DiskFull(error.errno, "no room") from None
        raise


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Nobody else of us writes meanwhile: one whose lease has run out may still be at it. Raises BlockingIOError."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(place)
    finally:
        os.close(place)
