"""Hand over: give a sink a stretch of events, call by call, and keep account of what became of each.

An event that is refused stops only what follows it about the same resource. Any other failure is the whole sink's, and
ends the stretch.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from worker import metrics
from worker.domain.events import EventFilter, cloud_event
from worker.sinks.base import EventRefused, Sink, SinkDisabled, TryLater
from worker.store.engine import UNAVAILABLE
from worker.store.outbox import NumberedEvent
from worker.store.undelivered import Waiting

REFUSED_IN_A_ROW = 20
"""So many events refused one after the other, and none taken in between, are no trouble of these events: the sink is
left alone like one that is away, and what follows waits where it is instead of being set aside row by row."""

LONGEST_TEXT = 200
"""Characters of a sink's own words that are kept."""


class SinkFailed(Exception):
    """A sink raised what our own database would."""


class RefusesEverything(Exception):
    """A sink refuses whatever it is given."""


class NoRoom(Exception):
    """A sink refused an event, and so many are set aside for it that no more may be."""


class HandOver:
    """One stretch. `go_on` is called before each call to the sink and may end the stretch by raising. `blocked` are the
    resources of which an event waits; `in_a_row` is how many events were refused since the last that was taken.
    Where it is `full`, none that is refused is set aside."""

    def __init__(
        self, sink: Sink, wanted: EventFilter, go_on: Callable[[], None], *, blocked: set[str], in_a_row: int
    ) -> None:
        self.taken: list[NumberedEvent] = []
        self.arrived: list[Waiting] = []
        self.refused: list[tuple[Waiting, str]] = []
        self.followers: list[NumberedEvent] = []
        self.reached = 0
        self.offered = 0
        self.in_a_row = in_a_row
        self.blocked = blocked
        self.full = False
        self._sink = sink
        self._wanted = wanted
        self._go_on = go_on

    def waiting(self, some: Iterable[Waiting]) -> None:
        """Offer events that wait, each by itself; `some` are in order. Raises what the sink raises, but no refusal."""
        stopped: set[str] = set()
        for item in some:
            if item.resource in stopped:
                continue
            self._go_on()
            try:
                self._give([item.item])
            except SinkDisabled:
                raise
            except Exception as error:
                # Also one that is the whole sink's: else an event that breaks the receiver would always come first.
                self.refused.append((item, error_text(error)))
                stopped.add(item.resource)
                if not isinstance(error, EventRefused):
                    raise
            else:
                self.arrived.append(item)
                self.in_a_row = 0

    def stretch(self, batch: Sequence[NumberedEvent]) -> None:
        """Offer the events behind the cursor. Raises what the sink raises, but no refusal; RefusesEverything after
        too many of those, NoRoom where none may be set aside. Up to `reached` each event was taken, set aside, or not
        wanted."""
        left = deque(item for item in batch if self._wanted.passes(item.event))
        while left:
            if left[0].event.resource in self.blocked:
                self._follow(left.popleft())
                continue
            self._offer(self._next(left))
        if batch:
            self.reached = batch[-1].sequence

    def _next(self, left: deque[NumberedEvent]) -> list[NumberedEvent]:
        some: list[NumberedEvent] = []
        while left and len(some) < self._sink.at_once and left[0].event.resource not in self.blocked:
            some.append(left.popleft())
        return some

    def _follow(self, item: NumberedEvent) -> None:
        self.followers.append(item)
        self.reached = item.sequence

    def _offer(self, some: list[NumberedEvent]) -> None:
        try:
            self._call(some)
        except EventRefused as error:
            if len(some) == 1:
                self._refuse(some[0], error)
                return
        else:
            self.taken.extend(some)
            self.reached = some[-1].sequence
            self.in_a_row = 0
            return
        # Which of several was refused is found by offering each by itself.
        for item in some:
            if item.event.resource in self.blocked:
                self._follow(item)
            else:
                self._offer([item])

    def _refuse(self, item: NumberedEvent, error: EventRefused) -> None:
        if self.full:
            raise NoRoom(str(error)) from error
        self.refused.append((Waiting(item), error_text(error)))
        self.blocked.add(item.event.resource)
        self.reached = item.sequence
        self.in_a_row += 1
        if self.in_a_row >= REFUSED_IN_A_ROW:
            raise RefusesEverything(str(error)) from error

    def _call(self, some: Sequence[NumberedEvent]) -> None:
        self._go_on()
        self._give(some)

    def _give(self, some: Sequence[NumberedEvent]) -> None:
        self.offered = some[-1].sequence
        events = [cloud_event(item.event, item.id, item.sequence, item.occurred_at) for item in some]
        try:
            self._sink.deliver(events)
        except UNAVAILABLE as error:
            # A sink may have a database of its own. Its trouble is not ours.
            raise SinkFailed(type(error).__name__) from error
        metrics.note_delivered(self._sink.name, [item.occurred_at for item in some])


_SHOWN = (EventRefused, SinkDisabled, TryLater, RefusesEverything, NoRoom, SinkFailed)


def error_text(error: BaseException) -> str:
    """What is kept and shown of a sink's error: its class and, where there is one, the HTTP status. Only what says by
    contract that it may be shown is quoted, because any other text could name a URL, and with it a secret."""
    name = type(error).__name__
    status = getattr(error, "http_status", None)
    if isinstance(error, _SHOWN):
        text = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(error))
        return f"{name}: {text[:LONGEST_TEXT]}" if text else name
    return f"{name}: HTTP {status}" if isinstance(status, int) else name
