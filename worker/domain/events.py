"""Which events a new version of a result calls for, and how an event is written down.

Events are thin: ids, verdict, version number and times, and no personal data, because they travel into queues, logs and
other teams' systems that nobody erases.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from worker.domain.model import Verdict
from worker.domain.states import EventType, Outcome, Stage

_NAMESPACE = uuid.UUID("6f1d3c1e-9f0b-5b5c-8f6e-2d1f6b6f3a10")

CREDENTIAL_REFUSED = "the credential cannot be used"

HOLD_REASON = re.compile(
    f"held by an operator|the provider answered [1-5][0-9]{{2}}|[a-z_]{{1,40}} is not set|{CREDENTIAL_REFUSED}"
)
"""What an event may say of why a source is held: no word of a provider, of a package, or of an operator."""

_OPPOSITES = frozenset({(Outcome.APPROVED, Outcome.REJECTED), (Outcome.REJECTED, Outcome.APPROVED)})


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as it lies in the outbox. `occasion` tells repeated events of one version apart."""

    type: EventType
    source: str
    kind: str | None = None
    external_id: str | None = None
    version: int | None = None
    stage: Stage | None = None
    outcome: Outcome | None = None
    occasion: str = ""
    data: Mapping[str, object] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """What the event is about, as one word: events of one word keep their order wherever they go. Those about a
        whole source are about the source."""
        return "/".join(part for part in (self.source, self.kind, self.external_id) if part is not None)

    @property
    def id(self) -> str:
        """A name that is the same however often the same thing is written, so that writing it twice makes one row.

        Readers use the id that was stored: `occasion` is not, and without it this would be another name.
        """
        parts = (self.source, self.kind, self.external_id, self.version, self.type, self.occasion)
        return str(uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts)))


class Told(Protocol):
    """As much of an event as a filter looks at. Its type may be one that only a newer release knows."""

    @property
    def type(self) -> str:
        """What happened."""

    @property
    def source(self) -> str:
        """At which source."""

    @property
    def kind(self) -> str | None:
        """To what kind of resource; None for an event about a whole source."""


@dataclass(frozen=True, slots=True)
class News:
    """An event of the log, with its sequence and as much of it as a filter looks at."""

    sequence: int
    type: str
    source: str
    kind: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events somebody wants to hear of. What is empty lets everything through; the rest must all hold."""

    types: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def passes(self, event: Told) -> bool:
        """Whether the event is wanted."""
        asked = ((self.types, event.type), (self.sources, event.source), (self.kinds, event.kind))
        return all(not wanted or found in wanted for wanted, found in asked)


EVERYTHING = EventFilter()


def told_reason(reason: str) -> str:
    """Why a source is held, as events may say it. Anything but our own sentences may name somebody."""
    return reason if HOLD_REASON.fullmatch(reason) else CREDENTIAL_REFUSED


def types_for(previous: Verdict | None, current: Verdict) -> tuple[EventType, ...]:
    """The event types for a new version: what a reader of the result before must be told."""
    if previous is None:
        decided = (EventType.DECIDED,) if current.stage is Stage.DECIDED else ()
        return (EventType.CREATED, *decided)
    if current.stage is Stage.ERASED:
        return (EventType.UPDATED if previous.stage is Stage.ERASED else EventType.ERASED,)
    if previous.stage is Stage.DECIDED:
        return (_after_decision(previous, current),)
    return (EventType.DECIDED if current.stage is Stage.DECIDED else EventType.UPDATED,)


def _after_decision(previous: Verdict, current: Verdict) -> EventType:
    if current.stage is Stage.DECIDED and (previous.outcome, current.outcome) in _OPPOSITES:
        return EventType.REVERSED
    if (previous.stage, previous.outcome) != (current.stage, current.outcome):
        return EventType.REVISED
    return EventType.UPDATED


def cloud_event(event: Event, event_id: str, sequence: int, occurred_at: datetime) -> dict[str, object]:
    """The event as CloudEvents 1.0 in structured JSON. `event_id` is the stored one, `sequence` the cursor of
    `v1_events`."""
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id,
        "type": str(event.type),
        "source": f"/verisink/sources/{event.source}",
        "time": occurred_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": str(sequence),
        "data": dict(event.data),
    }
    if event.kind is not None and event.external_id is not None:
        envelope["subject"] = f"{event.kind}/{event.external_id}"
    return envelope
