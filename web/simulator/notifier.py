"""Sends notifications as the providers do: at once, late, twice or out of order, and again while nobody says 2xx.

It remembers every acknowledged one, because an acknowledged notification that leaves no trace is the worst bug.
"""

import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

import httpx

from web.simulator.credentials import Credentials
from web.simulator.notifications import Attempt, Flaw, Notice, WebhookRequest, sign
from web.simulator.records import Record, Ref
from worker.clock import monotonic, unix_seconds

PERSONA_BACKOFF = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds before each of Persona's seven retries, scaled down from its 3 seconds to 33 hours."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one attempt ended. `status` is None when there was no answer at all. The notice has lost its body."""

    notice: Notice
    attempt: int
    status: int | None
    answer: str
    duplicate: bool = False
    seconds: float = 0.0

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(order=True)
class _Due:
    at: float
    order: int
    notice: Notice = field(compare=False)
    attempt: Attempt = field(compare=False)
    duplicate: bool = field(compare=False)


class Notifier:
    """Sends to one target. `send` is for one at a time; `submit` queues for a few threads, and `drain` waits for them.

    `backoff` says how the providers retry; one that is not named never tries again, as nothing else is documented.
    """

    def __init__(
        self,
        target: str,
        credentials: Credentials,
        *,
        threads: int = 8,
        timeout: float = 5.0,
        backoff: dict[str, tuple[float, ...]] | None = None,
        on_receipt: Callable[[Receipt], None] | None = None,
    ) -> None:
        self._target = target.rstrip("/")
        self._credentials = credentials
        self._backoff = {"persona": PERSONA_BACKOFF} if backoff is None else backoff
        self._on_receipt = on_receipt
        limits = httpx.Limits(max_connections=threads + 4, max_keepalive_connections=threads + 4)
        self._client = httpx.Client(base_url=self._target, timeout=timeout, limits=limits, trust_env=False)
        self._changed = threading.Condition()
        self._queue: list[_Due] = []
        self._order = count()
        self._in_flight = 0
        self._closed = False
        self._receipts: list[Receipt] = []
        self._threads = [threading.Thread(target=self._work, name=f"notifier-{n}", daemon=True) for n in range(threads)]
        self._started = False

    def send(self, notice: Notice, *, flaw: Flaw | None = None, attempt: Attempt | None = None) -> Receipt:
        """Send now, once, and wait for the answer."""
        return self._send(notice, attempt or Attempt(unix_seconds()), flaw=flaw, duplicate=False)

    def post(self, request: WebhookRequest) -> httpx.Response:
        """Send a request that was built by hand, and keep no record of it. Raises httpx.HTTPError."""
        return self._client.post(request.path, content=request.body, headers=request.headers)

    def submit(self, notice: Notice, *, delay: float = 0.0, duplicate: bool = False) -> None:
        """Send in a while, and again as the provider would until it is acknowledged or given up."""
        self._start()
        self._push(_Due(monotonic() + delay, next(self._order), notice, Attempt(0), duplicate))

    def scatter(
        self, notice: Notice, rng: random.Random, *, duplicate: float, reorder: float, spread: float = 0.5
    ) -> int:
        """Submit, perhaps late so that others overtake it, perhaps twice. Returns how many copies are on their way."""
        self.submit(notice, delay=rng.uniform(0, spread) if rng.random() < reorder else 0.0)
        twice = rng.random() < duplicate
        if twice:
            self.submit(notice, delay=rng.uniform(0, spread), duplicate=True)
        return 2 if twice else 1

    def drain(self, timeout: float = 60.0) -> bool:
        """Wait until nothing is queued or on its way. False if the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._in_flight, timeout=timeout)

    def receipts(self) -> list[Receipt]:
        """Every attempt and its end."""
        with self._changed:
            return list(self._receipts)

    def acknowledged(self) -> list[Receipt]:
        """The attempts that were answered with 2xx."""
        return [receipt for receipt in self.receipts() if receipt.acknowledged]

    def acknowledged_revisions(self) -> dict[Ref, int]:
        """For each record, the newest of its revisions that the target has acknowledged to have been told of."""
        newest: dict[Ref, int] = {}
        for receipt in self.acknowledged():
            ref = receipt.notice.ref
            newest[ref] = max(newest.get(ref, 0), receipt.notice.revision)
        return newest

    def close(self) -> None:
        """Stop sending. What is still queued is given up."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads if self._started else ():
            thread.join()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        with self._changed:
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()

    def _push(self, due: _Due) -> None:
        with self._changed:
            if not self._closed:
                heapq.heappush(self._queue, due)
                self._changed.notify_all()

    def _work(self) -> None:
        while (due := self._take()) is not None:
            now = unix_seconds()
            attempt = Attempt(now, due.attempt.number, due.attempt.first_at or now)
            receipt = self._send(due.notice, attempt, flaw=None, duplicate=due.duplicate)
            self._again(due, attempt, receipt)
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _take(self) -> _Due | None:
        with self._changed:
            while not self._closed:
                wait = self._queue[0].at - monotonic() if self._queue else None
                if wait is not None and wait <= 0:
                    self._in_flight += 1
                    return heapq.heappop(self._queue)
                self._changed.wait(wait)
            return None

    def _again(self, due: _Due, attempt: Attempt, receipt: Receipt) -> None:
        backoff = self._backoff.get(due.notice.ref.provider, ())
        if not receipt.acknowledged and attempt.number <= len(backoff):
            later = Attempt(0, attempt.number + 1, attempt.first_at)
            at = monotonic() + backoff[attempt.number - 1]
            self._push(_Due(at, next(self._order), due.notice, later, due.duplicate))

    def _send(self, notice: Notice, attempt: Attempt, *, flaw: Flaw | None, duplicate: bool) -> Receipt:
        request = sign(self._credentials, notice, attempt=attempt, flaw=flaw)
        started = monotonic()
        status: int | None = None
        try:
            response = self.post(request)
            status, answer = response.status_code, response.text[:200]
        except httpx.HTTPError as error:
            answer = type(error).__name__
        receipt = Receipt(notice.without_body(), attempt.number, status, answer, duplicate, monotonic() - started)
        with self._changed:
            self._receipts.append(receipt)
        if self._on_receipt is not None:
            self._on_receipt(receipt)
        return receipt


def told_of(record: Record, receipts: list[Receipt]) -> bool:
    """Whether the newest state of `record` has been acknowledged."""
    return any(
        receipt.acknowledged and receipt.notice.ref == record.ref and receipt.notice.revision >= record.revision
        for receipt in receipts
    )
