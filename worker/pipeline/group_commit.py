"""Group commit: requests that arrive together share one transaction, and each waits for it.

There is no thread. The first request commits at once and alone, so an idle receiver adds no delay; those that arrive
meanwhile form the next group, and its first member commits for all. Where groups follow each other, it gives those a
moment who have just been answered and come again: half as many groups cost less than they waited.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from worker.errors import IntakeUnavailable, NotCommitted
from worker.waiting import THREADS, Event, Waiter

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST_GROUP = 64
"""Larger groups lock more rows for longer and gain little: the commit is shared already."""

GATHER_SECONDS = 0.001
"""About as long as a busy sender needs to send its next ones, and less than half of what a commit takes."""

MOST_WAITING = 2000
"""Behind so many, a request would wait longer than its sender does; it is better told to come again."""


class _Ticket(Generic[Item, Answer]):
    __slots__ = ("answer", "error", "item", "leads", "wake")

    def __init__(self, item: Item, wake: Event) -> None:
        self.item = item
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.leads = False
        self.wake = wake

    def resolve(self) -> Answer:
        if self.error is not None:
            raise self.error
        if self.answer is None:
            raise IntakeUnavailable("the group's commit gave no answer")
        return self.answer


class GroupCommit(Generic[Item, Answer]):
    """Hands groups of items to `commit`, which answers for each in order, or raises for all of them.

    `passing` names the errors that mean the database is away: then nobody's item is at fault. Any other error of a
    group is traced to its item by committing each alone. `waiter` is how its callers wait, and `blocks` whether
    `commit` blocks, for a group, instead of waiting in that way.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        passing: tuple[type[Exception], ...],
        waiter: Waiter = THREADS,
        blocks: Callable[[Sequence[Item]], bool] = lambda _: True,
    ) -> None:
        self._commit = commit
        self._blocks = blocks
        self._passing = passing
        self._waiter = waiter
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[Item, Answer]] = deque()
        self._busy = False
        self._last_size = 0
        self._enough: Event | None = None

    def submit(self, item: Item, wait_seconds: float) -> Answer:
        """The answer for `item` once its group is committed. Raises what `commit` raised, NotCommitted when the time is
        over, or IntakeUnavailable."""
        ticket: _Ticket[Item, Answer] = _Ticket(item, self._waiter.event())
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise IntakeUnavailable("too many requests are waiting")
            if self._busy:
                self._waiting.append(ticket)
                if self._enough is not None and not self._is_small():
                    self._enough.set()
            else:
                self._busy = ticket.leads = True
        follows = not ticket.leads
        if follows:
            self._wait(ticket, wait_seconds)
        if ticket.leads:
            if follows:
                self._gather()
            self._lead(ticket)
        return ticket.resolve()

    def _wait(self, ticket: _Ticket[Item, Answer], seconds: float) -> None:
        if ticket.wake.wait(seconds):
            return
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                ticket.error = NotCommitted("the commit did not end in time")
                return
        # Its group is being committed, or it has just been told to lead: the outcome is near, and must be known.
        ticket.wake.wait(seconds)
        if not ticket.wake.is_set():
            ticket.error = NotCommitted("the commit did not end in time")

    def _gather(self) -> None:
        with self._lock:
            if not self._is_small():
                return
            enough = self._enough = self._waiter.event()
        enough.wait(GATHER_SECONDS)
        with self._lock:
            self._enough = None

    def _is_small(self) -> bool:
        """Whether fewer are there than were in the last group. Whoever leads does not wait any more."""
        return len(self._waiting) + 1 < self._last_size

    def _lead(self, own: _Ticket[Item, Answer]) -> None:
        with self._lock:
            group = [own, *(self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP - 1)))]
            self._last_size = len(group)
        try:
            if self._blocks([ticket.item for ticket in group]):
                self._waiter.aside(partial(self._commit_group, group))
            else:
                self._commit_group(group)
        finally:
            self._hand_over()
            for ticket in group:
                ticket.wake.set()

    def _hand_over(self) -> None:
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            successor = self._waiting.popleft()
            successor.leads = True
        successor.wake.set()

    def _commit_group(self, group: Sequence[_Ticket[Item, Answer]]) -> None:
        try:
            answers = self._commit([ticket.item for ticket in group])
        except self._passing as error:
            self._fail(group, error)
        except Exception as error:  # noqa: BLE001 - whatever one item raises must not fail its neighbours
            if len(group) == 1:
                self._fail(group, error)
            else:
                for ticket in group:
                    self._commit_group([ticket])
        else:
            for ticket, answer in zip(group, answers, strict=True):
                ticket.answer = answer

    @staticmethod
    def _fail(group: Sequence[_Ticket[Item, Answer]], error: Exception) -> None:
        for ticket in group:
            ticket.error = error
