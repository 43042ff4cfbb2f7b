"""Landing: what calls brought waits here until it is written, all that has landed in one transaction.

Calls put their answers here and are over. A thread writes what is here, and whatever lands meanwhile after that, until
there is nothing more. A database that is away is waited for while the claims last; then somebody else calls.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from worker.clock import monotonic
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome, FailureKind
from worker.errors import ValueRefused
from worker.log import together, where
from worker.pipeline.write import Landed
from worker.store.claims import Claim
from worker.store.engine import UNAVAILABLE

LARGEST_GROUP = 64
"""Larger groups lock more rows for longer and gain little: the statements and the commit are shared already."""

READ_SECONDS = 1.0
"""For so long answers are read before those that are read by then are written. Usual ones take a tenth of a millisecond
each, and the worst of 32 KiB a third of a second."""

WRITE_PAUSE = 0.25
"""Seconds before the first try to write again; doubled each time, so that a restart of the database is outlived."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    claim: Claim
    read: Callable[[], Landed]
    ends: float
    done: bool = False
    known: Landed | None = None

    @property
    def names(self) -> dict[str, object]:
        return self.claim.names

    @property
    def landed(self) -> Landed:
        """What the call brought, of one that was read."""
        if self.known is None:
            raise LookupError("it was not read")
        return self.known


class Pump(Protocol):
    """Whose calls they are. All of it is called by the thread that writes."""

    def write(self, landed: Sequence[Landed]) -> Sequence[AttemptOutcome]:
        """Write a group, or raise for all of it."""

    def note_written(self, landed: Landed, written: AttemptOutcome) -> None:
        """How one of them ended."""

    def make_room(self, claims: Sequence[Claim]) -> None:
        """What these brought is about to be written."""

    def wake(self) -> None:
        """One who wrote has ended."""


class Landings:
    """What one pump's calls brought. Everything may be called from any thread.

    One thread at a time writes, and `submit` finds one. Two would write smaller groups, and the database would take
    longer for all of them. An answer is kept for `patience` seconds while the database is away.
    """

    def __init__(self, pump: Pump, submit: Callable[[Callable[[], None]], object], *, patience: float) -> None:
        self._pump = pump
        self._submit = submit
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._writing = False
        self._stopping = False
        self._pause = 0.0
        self._again_at = 0.0

    def put(self, claim: Claim, read: Callable[[], Landed]) -> None:
        """The call for a claim is over, and `read`, which must not raise, makes of its answer what is to be written.
        Returns at once."""
        with self._lock:
            self._waiting.append(_Waiting(claim, read, monotonic() + self._patience))
            if self._writing or self._pause:
                return
            self._writing = True
        try:
            self._submit(partial(self._write_all, 0.0))
        except BaseException:
            # It waits for the next one who writes, or for `try_again`.
            self._writing = False
            raise

    def __bool__(self) -> bool:
        """Whether there is anything that is not written to the end."""
        with self._lock:
            return bool(self._waiting or self._writing)

    @property
    def pause(self) -> float | None:
        """Seconds until the next try, where the last one failed."""
        return max(self._again_at - monotonic(), 0.0) if self._pause else None

    def try_again(self) -> None:
        """Write what could not be written before, once it is time. Only after a failure somebody has to ask."""
        with self._lock:
            pause = self._pause
            is_time = not pause or self._stopping or monotonic() >= self._again_at
            if not self._waiting or self._writing or not is_time:
                return
            self._writing = True
        self._write_all(pause)

    def stop(self) -> None:
        """The process is about to end: what cannot be written from now on is given up at once."""
        self._stopping = True

    def _write_all(self, pause: float) -> None:
        """Write group after group, until there is nothing more, or the database is away; `pause` is that of the time
        before."""
        try:
            while group := self._take(despite=pause):
                self._write_or_keep(group)
        finally:
            self._pump.wake()

    def _write_or_keep(self, group: Sequence[_Waiting]) -> None:
        try:
            self._pump.make_room([item.claim for item in group])
            # What waits again is no longer of this group, whatever becomes of the others.
            group = self._read_some(group)
            if group:
                self._write_group(group)
            self._pause = 0.0
        except UNAVAILABLE as error:
            self._keep([item for item in group if not item.done], error)
        except BaseException as error:  # noqa: BLE001 - a writer must live; their claims end, and somebody else calls
            for item in group:
                if not item.done:
                    log.error("attempt_not_written", error=where(error), **item.names)

    def _read_some(self, group: Sequence[_Waiting]) -> list[_Waiting]:
        """Read what is not read yet. Where that takes long, what is left comes with the next group."""
        until = monotonic() + READ_SECONDS
        read: list[_Waiting] = []
        for place, item in enumerate(group):
            if place and monotonic() > until:
                with self._lock:
                    self._waiting.extendleft(reversed(group[place:]))
                break
            try:
                item.known = item.known or item.read()
            except BaseException as error:  # noqa: BLE001 - its claim ends, and somebody else calls; so not the others'
                item.done = True
                log.error("attempt_not_read", error=where(error), **item.names)
            else:
                read.append(item)
        return read

    def _take(self, *, despite: float) -> list[_Waiting]:
        """The next group for the one who writes; none if that one is to end."""
        with self._lock:
            if not self._waiting or self._pause not in (0.0, despite):
                self._writing = False
                return []
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = self._pump.write([item.landed for item in group])
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one raises must not fail its neighbours
            if len(group) == 1:
                self._write_as_bug(group[0], error)
                return
            for item in group:
                self._write_group([item])
        else:
            self._tell_all(list(zip(group, outcomes, strict=True)))

    def _tell_all(self, told: Sequence[tuple[_Waiting, AttemptOutcome]]) -> None:
        for item, _ in told:
            item.done = True
        # The fenced are noted in the database, which takes longer than lines of the log should wait.
        with together():
            for item, outcome in told:
                if outcome is not AttemptOutcome.FENCED:
                    self._tell(item, outcome)
        for item, outcome in told:
            if outcome is AttemptOutcome.FENCED:
                self._tell(item, outcome)

    def _tell(self, item: _Waiting, outcome: AttemptOutcome) -> None:
        try:
            self._pump.note_written(item.landed, outcome)
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
        item.known = replace(item.landed, brought=Failure(FailureKind.BUG, place))
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
