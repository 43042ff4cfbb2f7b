"""A small disk that can be filled: a file system in memory, where this machine lets us mount one."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEGABYTES = 768
"""Holds the database of the longest run three times over, and the server's own programs where they must be copied."""

SMALLEST_BITE = 4096


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system of a fixed size."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Leave no room for anybody."""
        bite = 64 * 1024 * 1024
        with self._ballast.open("ab") as file:
            while bite >= SMALLEST_BITE:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, bite)
                except OSError:
                    bite //= 2

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def disk() -> Iterator[Disk | None]:
    """The disk, or None where mounting is not allowed."""
    # Directly below the temporary directory, where the unprivileged account that runs PostgreSQL can reach it.
    path = Path(tempfile.mkdtemp(prefix="verisink-disk-"))
    options = f"size={MEGABYTES}m,mode=0777"
    mounted = os.geteuid() == 0 and _succeeds("mount", "-t", "tmpfs", "-o", options, "verisink-chaos", str(path))
    try:
        yield Disk(path) if mounted else None
    finally:
        if mounted:
            _succeeds("umount", "--lazy", str(path))
        path.rmdir()


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
