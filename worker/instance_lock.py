"""One embedded Verisink at a time on a database file: two would each believe that they are the only writer."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from worker.errors import StoreError
from worker.settings import Settings


@contextmanager
def only_instance(settings: Settings) -> Iterator[None]:
    """Hold the lock of the SQLite file while the body runs; raises StoreError when another process holds it, or the
    file's folder cannot be used.

    The lock ends with the process, however it ends, so a kill leaves nothing to clean up.
    """
    if not settings.is_sqlite:
        yield
        return
    name = settings.database_url.get_secret_value().removeprefix("sqlite:///").partition("?")[0]
    with _opened(name) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another `verisink up` is running on {name}: stop it first, or use another database"
            ) from None
        yield


def _opened(name: str) -> TextIO:
    path = Path(name + ".lock").absolute()
    try:
        return open(path, "a", encoding="utf-8", opener=_open_private)
    except OSError as error:
        raise StoreError(
            f"the database {name} cannot be used, because {path} cannot be written ({error.strerror}): make its folder "
            "one that exists and may be written, or change VERISINK_DATABASE_URL"
        ) from None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
