"""The port that every sink implements."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

CloudEvent: TypeAlias = Mapping[str, object]
"""An event as `worker.domain.events.cloud_event` writes it down: CloudEvents 1.0 in structured JSON."""


class Sink(Protocol):
    """Where events go. A sink gets each event at least once, in order, with the same id, from one process at a time."""

    @property
    def name(self) -> str:
        """Its name in cursors, metrics and logs."""

    @property
    def at_once(self) -> int:
        """The most events that it is given in one call. A sink that cannot take all or none of several says 1."""

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Take some events, all of them or none, within three seconds. Raising anything means that it may not have
        taken them, and they are offered again."""

    def close(self) -> None:
        """Give back what it holds. It is not used afterwards."""
