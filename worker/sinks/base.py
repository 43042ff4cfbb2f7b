"""The port that every sink implements."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

CloudEvent: TypeAlias = Mapping[str, object]
"""An event as `worker.domain.events.cloud_event` writes it down: CloudEvents 1.0 in structured JSON."""


class SinkDisabled(Exception):
    """Whoever is behind the sink wants nothing more: it is held until an operator releases it. The text says why, in
    words that may be shown."""


class TryLater(Exception):
    """Whoever is behind the sink asks for a pause."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"asked for a pause of {seconds:.0f} s")


class EventRefused(Exception):
    """The event was refused and others may be taken: only what is about the same resource waits for it. The text says
    why, in words that may be shown."""


class CannotDeliver(Exception):
    """A look at the sink found that nothing would arrive. The text says why and `todo` what to do, in words that may be
    shown; `fails` is false where waiting may be enough."""

    def __init__(self, why: str, todo: str, *, fails: bool = True) -> None:
        self.todo = todo
        self.fails = fails
        super().__init__(why)


class Sink(Protocol):
    """Where events go. A sink gets each event at least once, in order, with the same id, from one process at a time."""

    @property
    def name(self) -> str:
        """Its name in cursors, metrics and logs."""

    @property
    def at_once(self) -> int:
        """The most events that it is given in one call. A sink that cannot take all or none of several says 1."""

    @property
    def call_seconds(self) -> float:
        """The longest that `deliver` takes. Another process may serve the sink some seconds later."""

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Take some events, all of them or none. Raising anything means that it may not have taken them, and they are
        offered again; SinkDisabled, TryLater and EventRefused say more about when."""

    def close(self) -> None:
        """Give back what it holds. It is not used afterwards."""


ASSUMED_CALL_SECONDS = 3.0
"""Sinks of other packages that were written for the release before do not say how long a call takes, and were told to
stay below this."""


def call_seconds(sink: Sink) -> float:
    """The longest that a call to the sink takes, also of one that does not say it."""
    return float(getattr(sink, "call_seconds", ASSUMED_CALL_SECONDS))


@runtime_checkable
class Checked(Protocol):
    """A sink that can be looked at without giving it an event, for `verisink doctor`."""

    def check(self) -> str:
        """How it stands, in words that may be shown. Takes no longer than a call. Raises CannotDeliver."""
