"""Landing: what calls brought waits here until it is written, all that has landed in one transaction.

A thread that brings an answer writes it, and whatever else has landed, unless enough others are writing already; then
it leaves its answer to them and goes on to the next call. A database that is away is waited for while the claims last;
then somebody else calls.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from worker.clock import monotonic
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome, FailureKind
from worker.errors import ValueRefused
from worker.log import where
from worker.pipeline.write import Landed
from worker.store.engine import UNAVAILABLE

LARGEST_GROUP = 64
"""Larger groups lock more rows for longer and gain little: the statements and the commit are shared already."""

WRITE_PAUSE = 0.25
"""Seconds before the first try to write again; doubled each time, so that a restart of the database is outlived."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    landed: Landed
    ends: float
    done: bool = False

    @property
    def names(self) -> dict[str, object]:
        return self.landed.claim.names


class Landings:
    """What one pump's calls brought. Everything may be called from any thread.

    `write` writes a group or raises for all of it, and `note` hears how each attempt ended. `left` hears which are
    being written now, and `done` that a group is over. As many as `writers` write at once: one waits for the database
    while the other prepares; but one more begins only with `worth_another`, because a group costs as much as ten more
    answers in it. An answer is kept for `patience` seconds while the database is away.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Landed]], Sequence[AttemptOutcome]],
        note: Callable[[Landed, AttemptOutcome], None],
        *,
        left: Callable[[Sequence[Landed]], None],
        done: Callable[[], None],
        writers: int,
        worth_another: int,
        patience: float,
    ) -> None:
        self._write = write
        self._note = note
        self._left = left
        self._done = done
        self._writers = writers
        self._pool = ThreadPoolExecutor(writers)
        self._worth_another = worth_another
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._groups = 0
        self._stopping = False
        self._pause = 0.0
        self._again_at = 0.0

    def put(self, landed: Landed) -> None:
        """An attempt is over. Returns once it is written, or somebody else is to write it."""
        with self._lock:
            self._waiting.append(_Waiting(landed, monotonic() + self._patience))
            wanted = self._may_write(despite_pause=False)
            self._groups += wanted
        if wanted:
            self._pool.submit(self._write_all, taken=True)

    def __bool__(self) -> bool:
        """Whether there is anything that is not written to the end."""
        with self._lock:
            return bool(self._waiting or self._groups)

    @property
    def pause(self) -> float | None:
        """Seconds until the next try, where the last one failed."""
        return max(self._again_at - monotonic(), 0.0) if self._pause else None

    def try_again(self) -> None:
        """Write what could not be written before, once it is time. Only after a failure somebody has to ask."""
        if self._pause and (self._stopping or monotonic() >= self._again_at):
            self._write_all(despite_pause=True)

    def stop(self) -> None:
        """The process is about to end: what cannot be written from now on is given up at once."""
        self._stopping = True

    def _write_all(self, *, despite_pause: bool = False, taken: bool = False) -> None:
        while group := self._take(despite_pause=despite_pause, taken=taken):
            taken = False
            try:
                self._left([item.landed for item in group])
                self._write_group(group)
                self._pause = 0.0
            except UNAVAILABLE as error:
                self._keep([item for item in group if not item.done], error)
                return
            finally:
                with self._lock:
                    self._groups -= 1
                self._done()

    def _may_write(self, *, despite_pause: bool) -> bool:
        enough = self._worth_another if self._groups else 1
        if len(self._waiting) < enough or self._groups >= self._writers or (self._pause and not despite_pause):
            return False
        return True

    def _take(self, *, despite_pause: bool, taken: bool) -> list[_Waiting]:
        """The next group to write, or none: then there is none, or whoever writes by now takes it."""
        with self._lock:
            if not taken:
                if not self._may_write(despite_pause=despite_pause):
                    return []
                self._groups += 1
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = self._write([item.landed for item in group])
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one raises must not fail its neighbours
            if len(group) == 1:
                self._write_as_bug(group[0], error)
                return
            for item in group:
                self._write_group([item])
        else:
            for item, outcome in zip(group, outcomes, strict=True):
                item.done = True
                self._tell(item, outcome)

    def _tell(self, item: _Waiting, outcome: AttemptOutcome) -> None:
        try:
            self._note(item.landed, outcome)
        except Exception as error:  # noqa: BLE001 - it is written; the others of its group are still to be told
            log.error("attempt_not_noted", error=where(error), **item.names)

    def _write_as_bug(self, item: _Waiting, error: Exception) -> None:
        """Whatever it is, the resource is parked, and a person looks."""
        place = str(error) if isinstance(error, ValueRefused) else where(error)
        log.error("write_bug", error=place, **item.names)
        brought = item.landed.brought
        if isinstance(brought, Failure) and brought.kind is FailureKind.BUG:
            item.done = True
            return
        item.landed = replace(item.landed, brought=Failure(FailureKind.BUG, place))
        self._write_group([item])

    def _keep(self, left: Sequence[_Waiting], error: Exception) -> None:
        log.warning("attempts_not_written_yet", error=type(error).__name__, attempts=len(left))
        with self._lock:
            self._pause = 2 * self._pause or WRITE_PAUSE
            self._again_at = monotonic() + self._pause
            kept = [item for item in left if not self._stopping and self._again_at <= item.ends]
            given_up = [item for item in left if self._stopping or self._again_at > item.ends]
            self._waiting.extendleft(reversed(kept))
            if not self._waiting:
                # All were given up. What lands next is not their fault.
                self._pause = 0.0
        for item in given_up:
            log.error("attempt_not_written", error=type(error).__name__, **item.names)
