"""What stands in the spool for a delivery: the arrival as it was read when it came, as text, and its bytes beside it.

It is not read again when it is handed over: by then its source may be gone from the settings, and a delivery must
neither wait for that nor be lost by it. Fields may be added; those here are read for as long as spools may hold them.
"""

import json
import uuid
from dataclasses import replace
from datetime import datetime

from worker.domain.model import Notification, ResourceRef
from worker.domain.states import DeliveryState
from worker.providers.base import body_digest
from worker.store.inbox import Arrival
from worker.store.spool import Kept


def pack(arrival: Arrival) -> Kept:
    """The row of an arrival. Plain ASCII, whatever a provider wrote."""
    said = arrival.notification
    head = {
        "id": arrival.id.hex,
        "source": arrival.source,
        "provider": arrival.provider,
        "environment": arrival.environment,
        "state": arrival.state,
        "reason": arrival.reason,
        "headers": dict(arrival.headers),
        "received_at": _text(arrival.received_at),
        "notification": {
            "delivery_key": said.delivery_key,
            "event_type": said.event_type,
            "resources": [[ref.kind, ref.external_id] for ref in said.resources],
            "event_id": said.event_id,
            "occurred_at": _text(said.occurred_at),
            "repeat_looks_again": said.repeat_looks_again,
        },
    }
    return Kept(json.dumps(head), arrival.body)


def unpack(row: Kept) -> Arrival:
    """The arrival of a row. What this release cannot read as a notification any more becomes unreadable."""
    head = json.loads(row.head)
    bare = Arrival(
        id=uuid.UUID(hex=head["id"]),
        source=head["source"],
        provider=head["provider"],
        environment=head["environment"],
        state=DeliveryState.UNREADABLE,
        reason=None,
        notification=Notification(body_digest(row.body), event_type=None),
        body=row.body,
        headers=head["headers"],
        received_at=_time(head["received_at"]),
    )
    try:
        said = _notification(head["notification"])
        return replace(bare, state=DeliveryState(head["state"]), reason=head["reason"], notification=said)
    except (KeyError, TypeError, ValueError) as error:
        return unread(bare, f"could not be read from the spool: {type(error).__name__}")


def unread(arrival: Arrival, reason: str) -> Arrival:
    """The same delivery, kept for a person to look at."""
    nothing = Notification(body_digest(arrival.body), event_type=None)
    return replace(arrival, state=DeliveryState.UNREADABLE, reason=reason, notification=nothing)


def _notification(said: dict[str, object]) -> Notification:
    resources = said["resources"]
    if not isinstance(resources, list):
        raise TypeError("not a list")
    return Notification(
        delivery_key=str(said["delivery_key"]),
        event_type=_optional(said["event_type"]),
        resources=tuple(ResourceRef(kind, external_id) for kind, external_id in resources),
        event_id=_optional(said["event_id"]),
        occurred_at=_time(_optional(said["occurred_at"])),
        repeat_looks_again=said["repeat_looks_again"] is True,
    )


def _optional(value: object) -> str | None:
    return None if value is None else str(value)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
