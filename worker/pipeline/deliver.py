"""Deliver: hand one sink what it has not got yet, in order, at least once, and be patient while it is away.

Each sink has a cursor, and a thread in every worker process. A lease lets one of them deliver at a time; it is taken
for a batch and given back with it, so that whoever has just numbered an event delivers it. How a sink in trouble stands
is in the database, so that all processes leave it alone together.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from itertools import takewhile

import structlog

from worker.clock import monotonic
from worker.log import where
from worker.pipeline.hand_over import REFUSED_IN_A_ROW, HandOver
from worker.pipeline.settle import FIRST_PAUSE as FIRST_PAUSE
from worker.pipeline.settle import LONGEST_PAUSE as LONGEST_PAUSE
from worker.pipeline.settle import Settled, Terms, Trouble, pause, settle
from worker.sinks.base import Sink, call_seconds
from worker.store import leases, outbox, sinks, turns, undelivered
from worker.store.engine import UNAVAILABLE, Database, Session, unless_crossed
from worker.store.outbox import Look, NumberedEvent
from worker.store.sinks import Standing
from worker.store.turns import Turn
from worker.store.undelivered import Waiting

BATCH = 250
"""Events between two moves of the cursor. So many may come again after a crash."""

RENEW_SECONDS = 2.0
"""A batch that takes several calls renews its lease when it is so old. An operator's hold is noticed then."""

SPARE_SECONDS = 0.5
"""What a lease lasts beyond the longest call that may begin just before it is renewed. Then, a process that died at a
batch has kept the sink from the others for long enough."""

AGAIN_SECONDS = 0.05
LONGEST_AGAIN_SECONDS = 1.0
"""How soon to look again at a sink that another process is serving. A batch takes some milliseconds, and what came too
late for it belongs to whoever numbered it; more often would only be in the other's way."""

RESOURCES_AT_ONCE = 10
"""Of resources whose events were refused, so many are tried between two batches: each may take a whole call, and the
others' events do not wait for more."""

MOST_WAITING = 10_000
"""Events set aside for one sink, or sent again. Beyond that its cursor stops at the first that would have to be, and
what waits behind it costs nothing."""

log = structlog.get_logger(__name__)


class _Look(Enum):
    """What came of an attempt to deliver."""

    EMPTY = auto()
    MORE = auto()
    TAKEN_BY_ANOTHER = auto()
    RESTING = auto()
    FAILED = auto()


class LeaseLost(Exception):
    """A sink was served for longer than its lease lasts, or is held, or belongs to another process."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be handed over: what waits and is due, and what stands behind the cursor. `standing` is there for a
    sink in trouble, and `blocked` are the resources whose events wait. Where it is `full`, no more may be set aside."""

    waiting: Sequence[Waiting]
    batch: Sequence[NumberedEvent]
    standing: Standing | None = None
    blocked: frozenset[str] = frozenset()
    whole: bool = True
    full: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.batch


class Deliverer:
    """Serves one sink. `wake` says that there may be something for it; the sink's own trouble delays nobody else."""

    def __init__(self, database: Database, sink: Sink, *, holder: str, terms: Terms | None = None) -> None:
        self.sink = sink
        self._database = database
        self._terms = terms or Terms()
        lasting = timedelta(seconds=call_seconds(sink) + RENEW_SECONDS + SPARE_SECONDS)
        self._turn = Turn(sink.name, sinks.lease_name(sink.name), holder, lasting)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._in_a_row = 0
        self._rests_until = 0.0
        self._again = AGAIN_SECONDS
        self._left_alone = False
        self._begun = not self._terms.from_now
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.sink.name}", daemon=True)
        self._thread.start()

    @property
    def resting(self) -> bool:
        """Whether the sink is left alone, so that only the database says when to go on."""
        return self._left_alone or monotonic() < self._rests_until

    def wake(self) -> None:
        """There may be something to deliver. Returns at once. While the sink is left alone, it stays so."""
        if not self.resting:
            self._wake.set()

    def wake_due(self) -> None:
        """The database says that there is something to deliver and that it may be tried. Returns at once."""
        self._rests_until = 0.0
        self._left_alone = False
        self._wake.set()

    def stop(self) -> None:
        """Deliver what is there, unless the sink is away, and end the thread. Returns at once."""
        self._stopping.set()
        self._wake.set()

    def join(self, wait_seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def serve(self) -> bool:
        """Deliver everything that is there; false if the sink did not take it. Raises what the database raises."""
        return self._serve() not in (_Look.FAILED, _Look.RESTING)

    def _serve(self) -> _Look:
        try:
            self._begin()
            while (look := self._deliver_some()) is _Look.MORE:
                pass
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - the thread must outlive its own mistakes, and not repeat them fast
            log.error("delivery_failed", sink=self.sink.name, error=where(error))
            self._failures += 1
            self._rest(pause(self._failures, FIRST_PAUSE, LONGEST_PAUSE))
            return _Look.FAILED
        return look

    def _begin(self) -> None:
        """Let a new sink that wants only what comes begin behind what is there."""
        if not self._begun:
            with self._database.write() as session:
                sinks.begin_now(session, self.sink.name)
            self._begun = True

    def _run(self) -> None:
        stopping = False
        # Where it begins is decided now, and not when the first event is there.
        wait: float | None = 0.0 if self._terms.from_now else None
        while not stopping:
            self._wake.wait(wait)
            self._wake.clear()
            # Asked before serving: what was numbered until the stop is delivered, also if a batch is under way.
            stopping = self._stopping.is_set()
            if not (stopping and self.resting):
                wait = self._serve_for_now()
        self.sink.close()

    def _serve_for_now(self) -> float | None:
        """Serve, and return how soon to look again by itself."""
        try:
            look = self._serve()
            if look is _Look.TAKEN_BY_ANOTHER:
                return self._wait_for_another()
        except UNAVAILABLE as error:
            log.warning("delivery_postponed", sink=self.sink.name, error=type(error).__name__)
            # The sweep wakes this thread again.
            return None
        self._again = AGAIN_SECONDS
        if look in (_Look.FAILED, _Look.RESTING) and not self._left_alone:
            return max(self._rests_until - monotonic(), 0.0)
        return None

    def _wait_for_another(self) -> float | None:
        """Where another process is busy with a sink, it is left to it more and more; where the sink is held, altogether
        until the database says that it is not."""
        again, self._again = self._again, min(2 * self._again, LONGEST_AGAIN_SECONDS)
        if again == LONGEST_AGAIN_SECONDS:
            with self._database.read() as session:
                self._left_alone = sinks.held(session, self.sink.name)
        return None if self._left_alone else again

    def _deliver_some(self) -> _Look:
        """Deliver a batch, if there is one and no other process is at it."""
        led_at = monotonic()
        try:
            with self._database.write_at_once() as session:
                found = turns.begin(session, self._turn, BATCH)
                if found is None:
                    return _Look.TAKEN_BY_ANOTHER
                work = self._look_closer(session, found)
                rest = work.standing.rest_seconds if work.standing is not None else 0.0
                if rest or work.empty:
                    turns.give_back(session, self._turn)
        except UNAVAILABLE:
            raise
        except Exception:
            # Whoever cannot even read an event, of a newer release perhaps, keeps nobody from delivering it.
            with self._database.write_at_once() as session:
                turns.give_back(session, self._turn)
            raise
        if rest:
            self._rest(rest)
            return _Look.RESTING
        if work.empty:
            return _Look.EMPTY
        return self._deliver(work, led_at)

    def _look_closer(self, session: Session, found: Look) -> _Work:
        name = self.sink.name
        if not found.troubled:
            return _Work((), found.batch, whole=len(found.batch) < BATCH)
        standing = sinks.standing(session, name)
        if standing.rest_seconds or not standing.waiting:
            return _Work((), found.batch, standing, whole=len(found.batch) < BATCH)
        waiting = undelivered.due(session, name, standing.now, resources=RESOURCES_AT_ONCE, limit=BATCH)
        resources = {item.event.resource for item in found.batch}
        blocked = frozenset(undelivered.blocked(session, name, resources))
        full = undelivered.count_waiting(session, name, MOST_WAITING) == MOST_WAITING
        batch = list(takewhile(partial(self._free, blocked), found.batch)) if full else found.batch
        whole = len(batch) < BATCH
        return _Work(waiting, batch, standing, blocked, whole=whole, full=full)

    def _free(self, blocked: frozenset[str], item: NumberedEvent) -> bool:
        """Whether an event need not be set aside behind others."""
        return item.event.resource not in blocked or not self._terms.wanted.passes(item.event)

    def _deliver(self, work: _Work, led_at: float) -> _Look:
        lead = _Leading(led_at, partial(self._renew, work.batch[0].sequence if work.batch else None))
        in_a_row = self._in_a_row
        if work.standing is not None and work.standing.failures:
            # One more that is refused, and it is left alone again.
            in_a_row = max(in_a_row, REFUSED_IN_A_ROW - 1)
        done = HandOver(self.sink, self._terms.wanted, lead.go_on, blocked=set(work.blocked), in_a_row=in_a_row)
        done.full = work.full
        failure: Exception | None = None
        try:
            done.waiting(work.waiting)
            done.stretch(work.batch)
        except Exception as error:  # noqa: BLE001 - sinks raise whatever their libraries do; it is looked at below
            failure = error
        self._in_a_row = done.in_a_row
        return self._settle(work, done, failure)

    def _settle(self, work: _Work, done: HandOver, failure: Exception | None) -> _Look:
        ours = isinstance(failure, (LeaseLost, *UNAVAILABLE))
        fault = None if ours else failure
        # An operator's release writes to the same rows, in an order of its own.
        settled = unless_crossed(partial(self._write_down, work, done, fault))
        self._tell(work, done, fault, settled)
        if fault is not None or settled.held is not None:
            self._failures += 1
            self._rest(settled.rest_seconds)
            self._left_alone = settled.held is not None
            return _Look.FAILED
        if failure is not None:
            if isinstance(failure, LeaseLost):
                return _Look.TAKEN_BY_ANOTHER
            raise failure
        self._failures = 0
        moved = bool(done.followers or done.arrived or done.refused)
        return _Look.EMPTY if work.whole and not moved else _Look.MORE

    def _write_down(self, work: _Work, done: HandOver, fault: Exception | None) -> Settled:
        if fault is None and work.standing is None and not done.refused:
            with self._database.write_at_once() as session:
                turns.end(session, self._turn, [item.sequence for item in done.taken], position=done.reached)
            return Settled()
        with self._database.write() as session:
            # Before the cursor, as whoever begins a turn takes them.
            leases.release(session, self._turn.lease, self._turn.holder)
            standing = work.standing or sinks.standing(session, self.sink.name)
            trouble = Trouble(standing, work.batch, fault, self._failures)
            settled = settle(session, self.sink.name, done, trouble, self._terms)
        return settled

    def _lead(self, session: Session) -> bool:
        turn = self._turn
        return leases.lead(session, turn.lease, turn.holder, lasting=turn.lasting)

    def _renew(self, first: int | None) -> bool:
        """Take the lease again; false where somebody else has it, or has delivered from `first` on meanwhile."""
        with self._database.write() as session:
            if not self._lead(session):
                return False
            return first is None or outbox.sink_position(session, self.sink.name) < first

    def _rest(self, seconds: float) -> None:
        self._rests_until = monotonic() + seconds

    def _tell(self, work: _Work, done: HandOver, fault: Exception | None, settled: Settled) -> None:
        """One line for the beginning of an outage and one for its end, whichever process sees them."""
        name, standing = self.sink.name, work.standing
        if settled.given_up:
            log.error(
                "events_given_up", sink=name, events=settled.given_up, hours=self._terms.retry.total_seconds() / 3600
            )
        if settled.held is not None:
            log.error("sink_held", sink=name, reason=settled.held)
        elif fault is not None and (standing is None or not standing.failures):
            # Once an outage; the error's text could name a URL.
            log.warning("sink_failed", sink=name, error=where(fault))
        elif fault is None and standing is not None and standing.failures and (done.taken or done.arrived):
            since = standing.away_since or standing.now
            seconds = round((standing.now - since).total_seconds(), 1)
            log.info("sink_recovered", sink=name, failures=standing.failures, seconds=seconds)


class _Leading:
    """The lease during one batch."""

    def __init__(self, led_at: float, renew: Callable[[], bool]) -> None:
        self._led_at = led_at
        self._renew = renew

    def go_on(self) -> None:
        """Renew the lease where that is due. Raises LeaseLost where another process delivers the same, or has."""
        if monotonic() - self._led_at < RENEW_SECONDS:
            return
        self._led_at = monotonic()
        if not self._renew():
            raise LeaseLost
