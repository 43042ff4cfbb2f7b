"""Reingest: read stored deliveries again, as if they came in now. What can be read now is accepted."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.model import Notification, ResourceKey
from worker.domain.replays import Ended, ItemOutcome
from worker.domain.states import Cause, DeliveryState, Priority
from worker.pipeline.receive import read_notification
from worker.providers.base import InboundRequest, Provider
from worker.settings import Source
from worker.store import redeliveries
from worker.store.engine import Session
from worker.store.redeliveries import StoredDelivery
from worker.store.resources import Want

OUTCOMES = {
    DeliveryState.ACCEPTED: ItemOutcome.ACCEPTED,
    DeliveryState.IGNORED: ItemOutcome.IGNORED,
    DeliveryState.UNREADABLE: ItemOutcome.UNREADABLE,
}
_RANK = (DeliveryState.UNREADABLE, DeliveryState.IGNORED, DeliveryState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Reread:
    """A stored delivery, and what it is found to say now."""

    delivery: StoredDelivery
    state: DeliveryState
    reason: str | None
    notification: Notification
    want: Want

    @property
    def resources(self) -> tuple[ResourceKey, ...]:
        """The resources that it names."""
        return tuple(ResourceKey(self.delivery.source, ref) for ref in dict.fromkeys(self.notification.resources))


class Reingester:
    """Reads stored deliveries with the parsers of the configured providers."""

    def __init__(self, configured: Mapping[str, Source], providers: Mapping[str, Provider]) -> None:
        self._sources = configured
        self._providers = providers

    def examine(self, session: Session, source: str, delivery_id: uuid.UUID) -> Reread | Ended:
        """Read a delivery again; writes nothing."""
        settings = self._sources.get(source)
        if settings is None:
            return Ended(ItemOutcome.SKIPPED, "its source is not configured")
        delivery = redeliveries.load(session, delivery_id)
        if delivery is None:
            return Ended(ItemOutcome.SKIPPED, "it is gone")
        if delivery.body is None:
            return Ended(ItemOutcome.ERASED)
        # It was authenticated when it came, and secrets may have been rotated since.
        request = InboundRequest(delivery.body, delivery.headers)
        state, reason, notification = read_notification(settings, self._providers[settings.provider], request)
        want = Want(settings.provider, settings.environment, Cause.REPLAY, Priority.REPLAY)
        return Reread(delivery, state, reason, notification, want)


def write(session: Session, found: Reread, now: datetime) -> Ended:
    """Note what a delivery says now, and want what it names; returns how it ended, and why if it is not accepted.

    Doing it twice only asks twice.
    """
    known = redeliveries.locked_state(session, found.delivery.id)
    if known is None:
        return Ended(ItemOutcome.SKIPPED, "it is gone")
    if rises(known, found.state):
        redeliveries.reread(session, found.delivery.id, found.state, found.reason, found.notification)
    elif found.state is known and known is not DeliveryState.ACCEPTED and found.reason != found.delivery.reason:
        redeliveries.set_reason(session, found.delivery.id, found.reason)
    if found.state is DeliveryState.ACCEPTED:
        redeliveries.want_named(session, found.delivery.id, found.resources, found.want, now)
    return Ended(OUTCOMES[found.state], found.reason)


def rises(known: DeliveryState, found: DeliveryState) -> bool:
    """Whether a delivery is better understood than before. What was accepted stays so, whatever a parser makes of it
    today."""
    return _RANK.index(found) > _RANK.index(known)
