"""Landing: what calls brought waits here until it is written, all that has landed in one transaction.

Threads that call put their answers here and go on to the next call; only the pump writes. A database that is away is
waited for while the claims last; then somebody else calls.
"""

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
    """What one pump's calls brought. `put` may be called from any thread; all else belongs to the pump.

    `write` writes a group or raises for all of it, and `note` hears how each attempt ended. An answer is kept for
    `patience` seconds while the database is away.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Landed]], Sequence[AttemptOutcome]],
        note: Callable[[Landed, AttemptOutcome], None],
        *,
        patience: float,
    ) -> None:
        self._write = write
        self._note = note
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._pause = 0.0
        self._again_at = 0.0

    def put(self, landed: Landed) -> None:
        """An attempt is over."""
        self._waiting.append(_Waiting(landed, monotonic() + self._patience))

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def pause(self) -> float | None:
        """Seconds until the next try, where the last one failed."""
        return max(self._again_at - monotonic(), 0.0) if self._pause else None

    def write(self, *, last_try: bool = False) -> None:
        """Write what is here by now, unless the last try has just failed. What lands meanwhile is written next time,
        or calls that land one after the other would keep the pump from starting new ones."""
        if self._pause and not last_try and monotonic() < self._again_at:
            return
        left = len(self._waiting)
        while left:
            group = [self._waiting.popleft() for _ in range(min(left, LARGEST_GROUP))]
            left -= len(group)
            try:
                self._write_group(group)
            except UNAVAILABLE as error:
                self._keep([item for item in group if not item.done], error, last_try=last_try)
                return
            self._pause = 0.0

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

    def _keep(self, left: Sequence[_Waiting], error: Exception, *, last_try: bool) -> None:
        self._pause = 2 * self._pause or WRITE_PAUSE
        self._again_at = monotonic() + self._pause
        log.warning("attempts_not_written_yet", error=type(error).__name__, attempts=len(left))
        for item in reversed(left):
            if last_try or self._again_at > item.ends:
                log.error("attempt_not_written", error=type(error).__name__, **item.names)
            else:
                self._waiting.appendleft(item)
        if not self._waiting:
            # All were given up. What lands next is not their fault.
            self._pause = 0.0
