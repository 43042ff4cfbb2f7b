"""Greenlets: requests to a receiver, and calls to providers, that wait without holding a thread.

They are written as if they blocked. Where they would, they ask their waiter, and only there another goes on. All of a
server, and all calls of a worker, run in one loop's thread; what blocks in earnest runs in a pool of threads meanwhile.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import structlog
from greenlet import GreenletExit, getcurrent, greenlet

from worker import waiting
from worker.log import where
from worker.waiting import READABLE, THREADS, WRITABLE

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

Job = Callable[[], object]


MOST_IDLE = 64
"""Greenlets that are kept for the next requests, as many as are never refused; each keeps some 20 KB."""


class Pool:
    """Threads for what blocks. They do not keep the process from ending, as those of the standard library's would."""

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._name = name
        self._most = threads
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> None:
        """Run `job`, which must not raise, in one of the threads as soon as one is free. Called by one thread only."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let each thread end after what it does now."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
            self._idle.release()


class Hub:
    """The greenlet in which the loop runs, and to which requests give way. Made in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        self.loop = loop
        self.pool = pool
        self.greenlet = getcurrent()
        self._thread = threading.get_ident()
        self.idle: list[_Request] = []
        self.busy: set[_Request] = set()
        self._calls: deque[Job] = deque()
        self._called = False

    def end(self) -> None:
        """Let idle greenlets end, in the thread that they belong to."""
        while self.idle:
            self.idle.pop().switch()

    def abandon(self) -> None:
        """Raise GreenletExit in all that wait. Called in the loop's thread, by none of them."""
        for request in list(self.busy):
            request.throw(GreenletExit)

    def spawn(self, run: Callable[[], object]) -> None:
        """Run `run`, which must not raise, in a greenlet; returns when it ends or first waits."""
        request = self.idle.pop() if self.idle else _Request(self)
        request.run_next = run
        if getcurrent() is self.greenlet:
            request.switch()
        else:
            # Begun by one request for the next: whoever waits or ends goes to the hub, and never back to the beginner.
            self.loop.call_soon(request.switch)

    def call(self, job: Job) -> None:
        """Run `job` soon, in the loop's thread. Any thread may ask for it; what comes together wakes the loop once."""
        self._calls.append(job)
        if self._called:
            return
        self._called = True
        if self.is_here():
            self.loop.call_soon(self._run_calls)
        else:
            # A loop that has ended has nobody left who waits.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._run_calls)

    def is_here(self) -> bool:
        """Whether the caller is in the loop's thread."""
        return threading.get_ident() == self._thread

    def _run_calls(self) -> None:
        # Before the first is taken: who comes later than the last sees this, and wakes the loop again.
        self._called = False
        # What these ask for in turn comes after others had theirs.
        for _ in range(len(self._calls)):
            try:
                self._calls.popleft()()
            except BaseException as error:  # noqa: BLE001 - the jobs behind it belong to others, and the loop to all
                log.error("job_failed", error=where(error))


class _Request(greenlet):
    """Runs one request after the other: to make a greenlet, and memory for its frames, takes as long as most of what it
    is made for."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(self._go_on, hub.greenlet)
        self.hub = hub
        self.run_next: Job | None = None

    def _go_on(self) -> None:
        hub = self.hub
        while (run := self.run_next) is not None:
            hub.busy.add(self)
            try:
                run()
            finally:
                hub.busy.discard(self)
            # It holds the request's body.
            run = self.run_next = None
            if len(hub.idle) >= MOST_IDLE:
                return
            hub.idle.append(self)
            hub.greenlet.switch()


class _Event:
    """Waited for by one greenlet, and set by anybody."""

    def __init__(self, request: _Request) -> None:
        self._hub = request.hub
        self._request: _Request | None = None
        self._owner = request
        self._happened = False

    def is_set(self) -> bool:
        return self._happened

    def set(self) -> None:
        self._happened = True
        # In the loop's thread nobody can be about to wait.
        if self._request is not None or not self._hub.is_here():
            self._hub.call(self._wake)

    def wait(self, timeout: float) -> bool:
        if not self._happened:
            self._request = self._owner
            timer = self._hub.loop.call_later(timeout, self._wake)
            self._hub.greenlet.switch()
            timer.cancel()
        return self._happened

    def _wake(self) -> None:
        # It is called in the loop's thread only, so it cannot come between a request's look and its waiting.
        request, self._request = self._request, None
        if request is not None:
            request.switch()


class _FileWait:
    """One greenlet waits for one file."""

    def __init__(self, request: _Request, fileno: int, wanted: int) -> None:
        self._request = request
        self._loop = request.hub.loop
        self._fileno = fileno
        self._wanted = wanted

    def wait(self, timeout: float | None) -> int:
        """What the file may be now, or 0."""
        if self._wanted & READABLE:
            self._loop.add_reader(self._fileno, self._end, READABLE)
        if self._wanted & WRITABLE:
            self._loop.add_writer(self._fileno, self._end, WRITABLE)
        timer = None if timeout is None else self._loop.call_later(timeout, self._end, 0)
        try:
            found: int = self._request.hub.greenlet.switch()
        finally:
            self._forget()
            if timer is not None:
                timer.cancel()
        return found

    def _forget(self) -> None:
        if self._wanted & READABLE:
            self._loop.remove_reader(self._fileno)
        if self._wanted & WRITABLE:
            self._loop.remove_writer(self._fileno)

    def _end(self, found: int) -> None:
        self._request.switch(found)


class Greenlets:
    """Lets greenlets wait, and threads as well: long bodies and the spool's own work come in threads."""

    def event(self) -> waiting.Event:
        """An event for whatever the caller runs in."""
        current = getcurrent()
        return _Event(current) if isinstance(current, _Request) else THREADS.event()

    def aside(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a thread while other requests go on; a caller that is a thread calls it itself."""
        current = getcurrent()
        if not isinstance(current, _Request):
            return THREADS.aside(function)
        hub = current.hub
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - it is raised again where it belongs
                errors.append(error)
            hub.call(current.switch)

        hub.pool.submit(run)
        hub.greenlet.switch()
        if errors:
            raise errors[0]
        return results[0]

    def gives_way(self) -> bool:
        """Whether the caller is a greenlet."""
        return isinstance(getcurrent(), _Request)

    def until_ready(self, fileno: int, wanted: int, timeout: float | None = None) -> int:
        """Wait in the loop for a file; a thread blocks. Only one greenlet may wait for the same file."""
        current = getcurrent()
        if not isinstance(current, _Request):
            return THREADS.until_ready(fileno, wanted, timeout)
        return _FileWait(current, fileno, wanted).wait(timeout)

    def soon(self, job: Job) -> None:
        """When the loop is back from what it does now; a thread calls it itself."""
        current = getcurrent()
        if isinstance(current, _Request):
            # Behind whoever is woken by what the caller is about to do.
            current.hub.call(partial(current.hub.call, job))
        else:
            THREADS.soon(job)
