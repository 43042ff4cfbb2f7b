"""Retrieve: claim, call, read. No transaction is open during a call, and nobody sleeps: what must wait gets a due time.

One pump a source and process: it claims what is due, keeps so many calls in flight, and ends when nothing is due or the
budget is spent. A source that hangs fills its own slots and nobody else's.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from worker import metrics
from worker.clock import monotonic
from worker.domain.model import ResourceRef
from worker.domain.retry import PROBE_AFTER, Failure
from worker.domain.states import AttemptOutcome, Cause, FailureKind, Priority
from worker.errors import ValueRefused
from worker.log import where
from worker.pipeline import write
from worker.pipeline.attempt import Attempt, Parts
from worker.pipeline.budget import Grant
from worker.pipeline.landing import Landings
from worker.pipeline.write import Landed
from worker.settings import WRITE_SHARE, Source
from worker.store import claims, resources, sources
from worker.store.claims import Claim
from worker.store.engine import UNAVAILABLE, Session, database_time, is_refusal

CHUNK = 50
"""Resources claimed at once. More would lie claimed behind slow calls while another worker is idle."""

IDLE_LOOK = 0.5
"""How often a pump with calls in flight looks again unasked, in case a nudge was lost."""

PUMP_SECONDS = 240.0
"""A pump's longest run. RabbitMQ believes a task lost after half an hour, and cuts the connection."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.6
"""Seconds between two calls for help: each pause is twice the one before, up to the longest. Whoever is up first takes
all nudges that wait, and whoever is busy takes some of those that come: so one of several workers might have a backlog
for itself, while each ring of the sweep meets one of them."""

LIVE_SLOTS = 0.25
"""Of a pump's slots, those kept for live work: all others may be filled by a replay of calls that take seconds."""

log = structlog.get_logger(__name__)


class Retriever:
    """All pumps of this process."""

    def __init__(self, parts: Parts) -> None:
        self._made_at = monotonic()
        self._pumps = {slug: _Pump(parts, source) for slug, source in parts.settings.sources.items()}

    def drain(self, source: str) -> None:
        """Work on what is due for `source` until there is nothing more to do. A source that is being drained is only
        told to look again; one that is not configured here is somebody else's."""
        pump = self._pumps.get(source)
        if pump is not None:
            pump.run()

    @property
    def looked_at(self) -> float:
        """When a pump of this process last looked for work, by the monotonic clock."""
        return max((pump.looked_at for pump in self._pumps.values()), default=self._made_at)

    def stop(self) -> None:
        """Claim nothing more; calls in flight end and are written."""
        for pump in self._pumps.values():
            pump.stop()


class _Pump:
    def __init__(self, parts: Parts, source: Source) -> None:
        self._parts = parts
        self._source = source
        self._slots = parts.settings.worker_concurrency
        self._lock = threading.Lock()
        self._running = False
        self._again = threading.Event()
        self._rung = False
        self._task: str | None = None
        self._context: Mapping[str, Any] = {}
        self._more = True
        self._was_short = False
        self._all_live = False
        self._calls_for_help_at, self._help_pause = 0.0, FIRST_PAUSE
        self._giving_back: Future[None] | None = None
        self._stopping = False
        self._low_slots = max(1, self._slots - max(1, int(self._slots * LIVE_SLOTS)))
        self._in_slots: dict[tuple[int, uuid.UUID], Priority] = {}
        self.looked_at = monotonic()
        self._pool: ThreadPoolExecutor | None = None
        # An alert waits for its first increase, which Prometheus sees only if it has seen the zero before.
        metrics.counter(metrics.ATTEMPTS, source.slug, AttemptOutcome.FAILED, FailureKind.CREDENTIAL)
        self._landings = Landings(self, self._submit, patience=parts.settings.lease_seconds * WRITE_SHARE)

    def run(self) -> None:
        self._rung = True
        self._again.set()
        with self._lock:
            if self._running or self._stopping:
                return
            self._running = True
        # With the task's id, and whatever else the lines of its threads are to carry.
        self._context = structlog.contextvars.get_contextvars()
        self._task = self._context.get("task")
        tracing = self._parts.tracing
        began = tracing.now() if tracing else 0
        try:
            self._run()
        finally:
            if tracing is not None and self._task is not None:
                tracing.drained(self._source.slug, self._task, began)
            with self._lock:
                self._running = False
        if (self._again.is_set() or self._more) and not self._stopping:
            # Somebody rang while the last look was already over.
            self._parts.nudge(self._source.slug)

    def stop(self) -> None:
        self._stopping = True
        self._landings.stop()
        self._again.set()

    def _run(self) -> None:
        ends = monotonic() + PUMP_SECONDS
        self._calls_for_help_at, self._help_pause = 0.0, FIRST_PAUSE
        self._all_live = False
        over = False
        while True:
            self._again.clear()
            over = over or self._stopping or monotonic() > ends
            self._landings.try_again()
            claimed = 0
            if not over and self._landings.pause is None and self._should_look():
                try:
                    claimed = self._start_calls()
                except Exception:
                    if not self._in_slots and not self._landings:
                        raise
                    # What is in the air comes first: nobody else would write it. The sweep rings again.
                    log.warning("claim_failed", source=self._source.slug)
                    over = True
            busy = claimed or self._in_slots or self._landings
            # A call that landed after the look has made room for what the look had none for.
            if not busy:
                if over or not (self._again.is_set() or self._more):
                    return
                continue
            pause = self._landings.pause
            self._again.wait(IDLE_LOOK if pause is None else pause)

    def _should_look(self) -> bool:
        """Whether there may be work: somebody said so, or the last look did not see the end of it. A look in vain costs
        as much as one that finds a single piece of work, which is what most nudges are about."""
        return self._rung or self._more or monotonic() > self.looked_at + IDLE_LOOK

    def _start_calls(self) -> int:
        """Claim what may be called now, and call it. Returns how many.

        The budget is asked first, because nothing may wait for Redis with a transaction open. What finds no work is
        given back beside the calls: an answer may be here before Redis has taken it.
        """
        self.looked_at = monotonic()
        self._rung = False
        taken = list(self._in_slots.values())
        free = min(self._slots - len(taken), CHUNK)
        # Before the look: whoever writes meanwhile may find that there is more.
        self._more = free <= 0
        if free <= 0:
            return 0
        # While live work fills all that is free, nothing else would get any of it.
        free_low = 0 if self._all_live else max(0, min(free, self._low_slots - _count_low(taken)))
        slug, budgets = self._source.slug, self._parts.budgets
        granted = budgets.grant(slug, calls=free, low=free_low)
        self._was_short = granted.calls < free and self._giving_back is not None and not self._giving_back.done()
        claims: list[Claim] = []
        try:
            if granted.calls > 0:
                with self._parts.database.write_at_once() as session:
                    claims, probing = self._claim(session, granted)
                self._call_all(claims, probing=probing)
        finally:
            low = _count_low(claim.priority for claim in claims)
            unused = partial(budgets.give_back, slug, calls=granted.calls - len(claims), low=granted.low - low)
            if claims and granted.calls > len(claims):
                self._giving_back = self._submit(partial(self._give_back, unused))
            else:
                unused()
        self._all_live = not low and len(claims) == free
        # With fewer than there was room for, of both classes, this was all.
        if len(claims) == free or low >= free_low:
            self._more = True
        if len(claims) == free or (low and low >= free_low):
            self._call_for_help()
        return len(claims)

    def _call_for_help(self) -> None:
        """There may be more than this process can take: ring for another that has nothing to do."""
        now = monotonic()
        if now >= self._calls_for_help_at:
            self._calls_for_help_at = now + self._help_pause
            self._help_pause = min(2 * self._help_pause, LONGEST_PAUSE)
            self._parts.nudge(self._source.slug)

    def _give_back(self, unused: Callable[[], None]) -> None:
        try:
            unused()
        finally:
            if self._was_short:
                # A look that came before this found too little of the budget.
                self._rung = True
                self._again.set()

    def _call_all(self, claims: Sequence[Claim], *, probing: bool) -> None:
        for claim in claims:
            self._in_slots[claim.token_of_attempt] = claim.priority
        try:
            self._parts.calls.start([partial(self._work, claim, probing=probing) for claim in claims])
        except BaseException:
            # Their claims end, and somebody else calls.
            for claim in claims:
                self._in_slots.pop(claim.token_of_attempt, None)
            raise

    def _claim(self, session: Session, granted: Grant) -> tuple[list[Claim], bool]:
        """What is claimed, and whether that is to probe a held source."""
        slug, lease = self._source.slug, timedelta(seconds=self._parts.settings.lease_seconds)
        claims = resources.claim(session, slug, limit=granted.calls, low=granted.low, lease=lease, undisturbed=True)
        if claims or not self._may_probe(session):
            return claims, False
        return resources.claim(session, slug, limit=1, low=granted.low, lease=lease), True

    def _may_probe(self, session: Session) -> bool:
        """Whether the source is held and is to be called once, to see whether it still has to be."""
        state = sources.state(session, self._source.slug)
        if state.held_at is None:
            return False
        now = database_time(session)
        return state.may_call(now) == 1 and sources.postpone_probe(session, self._source.slug, now + PROBE_AFTER)

    def make_room(self, claims: Sequence[Claim]) -> None:
        """Slots are free once their answers are being written, so that claims come in groups like the writes, and none
        come when the database does not keep up."""
        for claim in claims:
            self._in_slots.pop(claim.token_of_attempt, None)
        if self._more:
            self._again.set()

    def wake(self) -> None:
        """Look at what there is to do."""
        self._again.set()

    def _submit(self, job: Callable[[], None]) -> "Future[None]":
        with self._lock:
            if self._pool is None:
                # One writes, and one gives back what was not used of the budget.
                self._pool = ThreadPoolExecutor(2, thread_name_prefix=f"write-{self._source.slug}")
        return self._pool.submit(self._in_context, job)

    def _in_context(self, job: Callable[[], None]) -> None:
        with structlog.contextvars.bound_contextvars(**self._context):
            job()

    def _work(self, claim: Claim, *, probing: bool) -> None:
        try:
            attempt = Attempt(self._parts, self._source, claim, probing=probing, context=self._context)
            self._landings.put(claim, attempt.make())
        except BaseException as error:  # noqa: BLE001 - nobody else would hear of it, and the slot would stay taken
            log.error("flight_failed", error=where(error), **{**self._context, **claim.names})
            self._in_slots.pop(claim.token_of_attempt, None)
            self._again.set()

    def note_written(self, landed: Landed, written: AttemptOutcome) -> None:
        """Say in the log, in metrics and to the publisher how an attempt ended."""
        claim = landed.claim
        error = landed.brought.kind if isinstance(landed.brought, Failure) else None
        log.info("attempt_written", outcome=written, error=error, **claim.names)
        metrics.counter(metrics.ATTEMPTS, claim.key.source, written, error or "").inc()
        if written is AttemptOutcome.STORED and claim.cause is Cause.WEBHOOK and landed.began is not None:
            # Until the claim by the database's clock, and from there by this process's own.
            waited = (claim.started_at - claim.wanted_since).total_seconds()
            seconds = max(waited, 0.0) + monotonic() - landed.began
            metrics.histogram(metrics.STORED_SECONDS, claim.key.source).observe(seconds)
        if self._parts.tracing is not None and landed.call is not None:
            self._parts.tracing.attempted(claim, landed.call, written, error, self._task)
        # What failed may be due again by now, and so may what a document names.
        unsettled = error is not None or not self._source.coalesce_seconds
        if unsettled or _related(landed):
            self._more = True
        if written is AttemptOutcome.FENCED:
            self._note_fenced(claim)
        elif written is not AttemptOutcome.UNCHANGED:
            self._parts.published()

    def write(self, landed: Sequence[Landed]) -> list[AttemptOutcome]:
        """One transaction."""
        try:
            with self._parts.database.write() as session:
                return write.write(session, landed)
        except UNAVAILABLE as error:
            if is_refusal(error):
                # It is about a value and not about the database: the group is written one by one, to find out whose.
                raise ValueRefused(where(error)) from error
            raise

    def _note_fenced(self, claim: Claim) -> None:
        log.warning("attempt_fenced", **claim.names)
        try:
            with self._parts.database.write() as session:
                claims.note_fenced(session, claim, database_time(session))
        except UNAVAILABLE as error:
            # It stays a crash in the books. The others of its group are written, and must hear so.
            log.warning("attempt_fenced_not_noted", error=type(error).__name__, **claim.names)


def _count_low(priorities: Iterable[Priority]) -> int:
    return sum(1 for priority in priorities if priority is not Priority.LIVE)


def _related(landed: Landed) -> Sequence[ResourceRef]:
    return () if isinstance(landed.brought, Failure) else landed.brought[0].related
