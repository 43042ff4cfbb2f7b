"""Receive: authenticate the raw bytes, read what they name, commit, answer. Nothing else happens in a request.

Authenticated bytes are never dropped: what we cannot read is stored as unreadable, for operators to see. Our own
trouble is a 503, so that the provider sends it again.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import structlog
import uuid_utils.compat
from structlog.typing import FilteringBoundLogger

from worker import metrics
from worker.clock import monotonic, unix_seconds
from worker.domain.model import Notification
from worker.domain.states import DeliveryState, ReceiptStatus
from worker.errors import (
    AuthenticationFailed,
    IntakeUnavailable,
    NotCommitted,
    UnknownSource,
    UnreadableJson,
    UnreadableNotification,
)
from worker.log import together, trail, where
from worker.pipeline.burst import Bursts
from worker.pipeline.group_commit import GroupCommit
from worker.pipeline.spooled import unread
from worker.pipeline.spooling import Spooling
from worker.pipeline.tracing import Tracing
from worker.providers.base import InboundRequest, Provider, body_digest
from worker.settings import Source
from worker.store import inbox
from worker.store.engine import REFUSED, UNAVAILABLE, Database
from worker.store.inbox import Arrival, Receipt
from worker.waiting import THREADS, Waiter

COMMIT_WAIT = 4.0
"""Persona gives up after 5 seconds; an answer later than this would not be heard."""

SPOOL_AFTER = 1.5
"""Where there is a spool. A request in a group that is being committed waits twice as long, and must then still be kept
while its sender listens."""

AWAY: tuple[type[Exception], ...] = (*UNAVAILABLE, NotCommitted)
"""What a commit ends with when the database is away or too slow. That this process is asked for too much is another
thing: a spool would only put off a load that is too high."""

MOST_TRAILS = 5
"""Named in a delivery's line of the log. No provider's webhook is about more than two; a line must not grow."""

LONGEST_KEY = 200
"""No provider's event ids are longer than 40. A longer key would outgrow the index that makes it unique."""

LONG_GROUP = 256 * 1024
"""Bytes of bodies. To hash and pack more of them would hold up, for several milliseconds, all who share a thread with
the one who commits."""

QUARANTINE_PAUSE = 0.2
"""Seconds between two refused requests of a source that are kept and logged. Anybody can send bad requests; they must
fill neither our disk's time nor our log."""

MOST_QUARANTINES = 4
"""Refused requests that are being kept at once. Against a slow database they must not take what commits need."""

MOST_SESSIONS = 1 + MOST_QUARANTINES
"""One group commits at a time."""

ANSWERS: tuple[str, ...] = (*ReceiptStatus, "refused", "unavailable")
"""How a webhook of a configured source may be answered."""

NEWS = frozenset({ReceiptStatus.ACCEPTED, ReceiptStatus.DUPLICATE})
"""What there may be work for."""

KEPT_HEADERS = frozenset(
    {
        "content-type",
        "content-encoding",
        "user-agent",
        "persona-signature",
        "persona-webhook-attempts-made",
        "persona-webhook-attempts-left",
        "persona-webhook-first-attempted-at",
        "x-webhook-signature",
        "x-request-id",
        "traceparent",
    }
)
"""What is kept of a request's head: what was signed, and what helps to find out more. Credentials are never kept."""

log = structlog.get_logger(__name__)


class Receiver:
    """Takes deliveries for the configured sources. Thread-safe; `waiter` is how its callers wait."""

    def __init__(
        self,
        database: Database,
        sources: Mapping[str, Source],
        providers: Mapping[str, Provider],
        nudge: Callable[[str], None],
        *,
        spooling: Spooling | None = None,
        waiter: Waiter = THREADS,
    ) -> None:
        self._database = database
        self._sources = sources
        self._providers = providers
        self._nudge = nudge
        self._spooling = spooling
        self._waiter = waiter
        self._commits: GroupCommit[Arrival, Receipt] = GroupCommit(
            self._record, passing=AWAY, waiter=waiter, blocks=self._blocks
        )
        self._warm = False
        self._notes: deque[tuple[str, Receipt, float, Notification]] = deque()
        self._noting = False
        self._bursts = Bursts({slug: timedelta(seconds=source.coalesce_seconds) for slug, source in sources.items()})
        self._quarantine_from: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self._refusals_lock = threading.Lock()
        self._quarantines = threading.BoundedSemaphore(MOST_QUARANTINES)
        # From the start at zero: Prometheus takes a series that begins at one for nothing that has happened.
        self._counters: dict[tuple[str, str], metrics.Child] = {
            (slug, status): metrics.DELIVERIES.labels(slug, status) for slug in sources for status in ANSWERS
        }
        self.tracing: Tracing | None = None
        """Set by the composition root, where traces are wanted."""

    def source(self, slug: str) -> Source:
        """The configured source. Raises UnknownSource."""
        try:
            return self._sources[slug]
        except KeyError:
            raise UnknownSource("there is no such source") from None

    def receive(self, slug: str, request: InboundRequest) -> Receipt:
        """Take one delivery. Raises UnknownSource, AuthenticationFailed or IntakeUnavailable."""
        source = self.source(slug)
        provider = self._providers[source.provider]
        if request.token is not None and not provider.token_in_url:
            raise UnknownSource("this source has no token in its URL")
        try:
            provider.authenticate(source, request, unix_seconds())
        except AuthenticationFailed as refusal:
            self._counted(slug, "refused").inc()
            self._quarantine(slug, str(refusal), request)
            raise
        self._bursts.note(slug)
        began = monotonic()
        arrival = _arrival(source, provider, request)
        receipt = self._store(source, arrival)
        self._notes.append((slug, receipt, monotonic() - began, arrival.notification))
        if not self._noting:
            # When the answers are out, and once for all of a group: they are given at the same time.
            self._noting = True
            self._waiter.soon(self._note_all)
        return receipt

    def _note_all(self) -> None:
        # Before the first is taken: who comes later than the last sees this, and has it done again.
        self._noting = False
        # Bound once, or each line would bind it anew.
        bound = log.bind()
        with together():
            while self._notes:
                try:
                    note = self._notes.popleft()
                except IndexError:
                    # Another thread was quicker.
                    return
                try:
                    self._note(bound, *note)
                except Exception as error:  # noqa: BLE001 - it is acknowledged, and the notes behind it are others'
                    log.error("note_failed", error=where(error))

    def _note(self, to: FilteringBoundLogger, slug: str, receipt: Receipt, seconds: float, told: Notification) -> None:
        metrics.ACK_SECONDS.observe(seconds)
        if told.occurred_at is not None and receipt.status is ReceiptStatus.ACCEPTED:
            metrics.note_told(slug, told.occurred_at)
        self._counted(slug, receipt.status).inc()
        to.info(
            "delivery_received",
            source=slug,
            delivery=str(receipt.delivery_id),
            status=receipt.status,
            trails=[trail(slug, f"{ref.kind}/{ref.external_id}") for ref in told.resources[:MOST_TRAILS]],
        )
        if self.tracing is not None:
            self.tracing.received(slug, receipt.delivery_id, receipt.status, seconds)

    def _counted(self, slug: str, status: str) -> metrics.Child:
        """The counter of this outcome. Looking it up among its labels takes longer than counting."""
        try:
            return self._counters[slug, status]
        except KeyError:
            return self._counters.setdefault((slug, status), metrics.DELIVERIES.labels(slug, status))

    def _store(self, source: Source, arrival: Arrival) -> Receipt:
        try:
            return self._commit(arrival)
        except REFUSED as error:
            # A value that we took for storable is not. The bytes always are, so keep them, and let a person look.
            log.error(
                "delivery_stored_unread", source=source.slug, delivery=str(arrival.id), error=type(error).__name__
            )
            reason = f"could not be stored as read: {type(error).__name__}"
            return self._commit(unread(arrival, reason))

    def _commit(self, arrival: Arrival) -> Receipt:
        try:
            return self._commit_or_keep(arrival)
        except IntakeUnavailable:
            self._counted(arrival.source, "unavailable").inc()
            raise
        except UNAVAILABLE as error:
            self._counted(arrival.source, "unavailable").inc()
            log.error(
                "delivery_not_stored", source=arrival.source, delivery=str(arrival.id), error=type(error).__name__
            )
            raise IntakeUnavailable("the database is not available") from None

    def _commit_or_keep(self, arrival: Arrival) -> Receipt:
        if self._spooling is None:
            return self._commits.submit(arrival, COMMIT_WAIT)
        if not self._spooling.away:
            try:
                return self._commits.submit(arrival, SPOOL_AFTER)
            except AWAY as error:
                self._spooling.found_away(error)
        return self._spooling.keep(arrival)

    def _blocks(self, arrivals: Sequence[Arrival]) -> bool:
        """Whether to record a group takes a thread. The first one does, because it opens the database's connections."""
        return self._database.is_sqlite or not self._warm or sum(len(arrival.body) for arrival in arrivals) > LONG_GROUP

    def _record(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        if self._spooling is not None and self._spooling.away:
            # Found out while this group was waiting. Each of it is kept, rather than wait for the database in turn.
            raise NotCommitted("the database is away")
        if not self._warm:
            self._database.warm()
            self._warm = True
        receipts = inbox.record_group(self._database, arrivals, self._bursts.pauses())
        # Once for the group, and only now that workers can see it.
        told = {arrival.source for arrival, receipt in zip(arrivals, receipts, strict=True) if receipt.status in NEWS}
        for source in told:
            # When the answers are out, because the nudger's thread takes its time from this one.
            self._waiter.soon(partial(self._nudge, source))
        return receipts

    def _quarantine(self, slug: str, reason: str, request: InboundRequest) -> None:
        now = monotonic()
        with self._refusals_lock:
            self._refusals[slug] += 1
            if now < self._quarantine_from.get(slug, 0.0):
                return
            self._quarantine_from[slug] = now + QUARANTINE_PAUSE
            refusals = self._refusals.pop(slug)
        log.warning("delivery_refused", source=slug, reason=reason, refusals=refusals)
        if self._spooling is not None and self._spooling.away:
            return
        if not self._quarantines.acquire(blocking=False):
            log.warning("quarantine_not_stored", source=slug, error="the database is slow")
            return
        try:
            self._waiter.aside(partial(self._keep_refused, slug, reason, request))
        except UNAVAILABLE as error:
            log.warning("quarantine_not_stored", source=slug, error=type(error).__name__)
        finally:
            self._quarantines.release()

    def _keep_refused(self, slug: str, reason: str, request: InboundRequest) -> None:
        with self._database.write() as session:
            inbox.quarantine(session, slug, reason, request.body, list(request.headers))


def _arrival(source: Source, provider: Provider, request: InboundRequest) -> Arrival:
    state, reason, notification = read_notification(source, provider, request)
    return Arrival(
        id=uuid_utils.compat.uuid7(),
        source=source.slug,
        provider=source.provider,
        environment=source.environment,
        state=state,
        reason=reason,
        notification=notification,
        body=request.body,
        headers={name: value for name, value in request.headers.items() if name in KEPT_HEADERS},
    )


def read_notification(
    source: Source, provider: Provider, request: InboundRequest
) -> tuple[DeliveryState, str | None, Notification]:
    """What an authentic request says, and what follows for its delivery: accepted, ignored or unreadable, and why."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    try:
        if encoding not in ("", "identity"):
            raise UnreadableNotification("the body is compressed, and no provider is known to do that")
        notification = provider.parse(source, request.body)
    except (UnreadableJson, UnreadableNotification) as error:
        unread = Notification(body_digest(request.body), event_type=None)
        return DeliveryState.UNREADABLE, str(error), unread
    except Exception as error:  # noqa: BLE001 - a parser's bug must not lose what the provider may never send again
        log.error("parse_bug", source=source.slug, error=type(error).__name__)
        unread = Notification(body_digest(request.body), event_type=None)
        return DeliveryState.UNREADABLE, f"a bug of ours: {type(error).__name__}", unread
    if len(notification.delivery_key) > LONGEST_KEY:
        reason = "the event id is too long"
        return DeliveryState.UNREADABLE, reason, Notification(body_digest(request.body), event_type=None)
    if not notification.resources:
        return DeliveryState.IGNORED, notification.ignored_because or "nothing to retrieve", notification
    return DeliveryState.ACCEPTED, None, notification
