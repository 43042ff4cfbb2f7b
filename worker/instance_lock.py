"""One embedded Verisink at a time on a database file: two would each believe that they are the only writer."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import StoreError
from worker.settings import Settings


@contextmanager
def only_instance(settings: Settings) -> Iterator[None]:
    """Hold the lock of the SQLite file while the body runs; raises StoreError when another process holds it.

    The lock ends with the process, however it ends, so a kill leaves nothing to clean up.
    """
    if not settings.is_sqlite:
        yield
        return
    name = settings.database_url.get_secret_value().removeprefix("sqlite:///").partition("?")[0]
    path = Path(name + ".lock")
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another `verisink up` is running on {name}: stop it first, or use another database"
            ) from None
        yield
