"""The port that every sink implements."""

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """Where events go. A sink gets each event at least once, in order, with the same id."""

    @property
    def name(self) -> str:
        """Its name in cursors, metrics and logs."""

    def deliver(self, cloud_event: Mapping[str, object]) -> None:
        """Take one CloudEvent. Raising anything means that it was not taken; it is offered again."""
