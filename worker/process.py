"""A worker process: Celery in the main thread, ended by its supervisor's death as well as by a signal.

Run as `python -m worker.process <process id of the supervisor>`, by the supervisor of `verisink worker`.
"""

# First, because it loads libraries that the others import.
from worker import lean

# isort: split
import os
import signal
import sys
import threading
import time

from worker import log, metrics, settings

PARENT_POLL = 1.0


def end_with_parent(parent: int) -> None:
    """End this process, gracefully, once its parent is gone: nobody would end or restart it any more.

    The parent says who it is, because one that died while this process was starting can no longer be asked for.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def main() -> None:
    """Work until told to stop."""
    loaded = settings.load()
    log.configure(loaded.log_level, loaded.log_format)
    end_with_parent(int(sys.argv[1]))
    metrics.PROCESS_STARTS.labels("worker").inc()
    tasks = lean.load("worker.tasks")
    sys.exit(tasks.work(tasks.make_worker_app(loaded)))


if __name__ == "__main__":
    main()
