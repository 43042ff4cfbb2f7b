"""The calls of a process: greenlets in one loop, which has a thread to itself.

A call waits for its provider most of the time, and so many threads would wait for each other instead.
"""

import threading
from collections.abc import Callable, Iterable

import uvloop

from worker.greenlets import Greenlets, Hub, Pool

ASIDE_THREADS = 16
"""For what blocks: connecting, above all."""


class Calls:
    """Runs what waits for providers. Its thread begins with the first call, and does not keep a process from ending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hub: Hub | None = None

    def start(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Run each job, which must not raise, in a greenlet. Returns at once."""
        with self._lock:
            if self._hub is None:
                self._hub = _started()
        hub, jobs = self._hub, list(jobs)

        def spawn() -> None:
            for job in jobs:
                hub.spawn(job)

        hub.call(spawn)


def _started() -> Hub:
    hubs: list[Hub] = []
    ready = threading.Event()

    def run() -> None:
        loop = uvloop.new_event_loop()
        hubs.append(Hub(loop, Pool("call-aside", ASIDE_THREADS)))
        ready.set()
        loop.run_forever()

    threading.Thread(target=run, name="calls", daemon=True).start()
    ready.wait()
    return hubs[0]


GREENLETS = Greenlets()
