"""The deeds of operators about sinks, the same for API and command line. Each leaves an audit entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from worker.domain.events import EVERYTHING
from worker.errors import SinkRefuses, UnknownSink
from worker.pipeline.deliver import MOST_WAITING
from worker.pipeline.sink_terms import terms
from worker.settings import RESERVED_SINKS, Settings
from worker.store import audit, outbox, sent_again, sinks, undelivered
from worker.store.audit import Deed
from worker.store.engine import Database, Session, database_time, unless_crossed
from worker.store.outbox import NumberedEvent

MOST_SENT_AGAIN = 10_000
"""Events that are sent again at once; whoever wants more says it again."""

SENT_AGAIN_TOGETHER = 500
"""Of them, so many are written in one transaction. SQLite has one writer, and these keep it for a fifth of a second."""

FORGOTTEN_AT_ONCE = 5000
"""Lines of a log that are deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are sent again: one by its id, all that were given up, or those that happened in a time."""

    event: str | None = None
    given_up: bool = False
    since: datetime | None = None
    until: datetime | None = None


def names(settings: Settings) -> list[str]:
    """All sinks that there are, the log first."""
    return [*sorted(RESERVED_SINKS), *settings.sinks]


def hold(session: Session, settings: Settings, name: str, *, actor: str, reason: str) -> bool:
    """Deliver nothing to a sink until it is released; its events wait. False if it was held already, and then that
    hold's reason stays. Raises UnknownSink."""
    _require_known(settings, name)
    now = database_time(session)
    if name in settings.sinks and terms(settings)[name].from_now:
        # One that never began still begins now, and not when it is released.
        sinks.begin_now(session, name)
    shown = f"{reason} (by {actor})"
    changed = sinks.hold(session, name, shown, now)
    if changed:
        audit.note(session, Deed(actor, "sink.hold", name, shown), now)
    return changed


def release(session: Session, settings: Settings, name: str, *, actor: str, reason: str | None = None) -> bool:
    """Deliver to a sink again, whoever held it, and at once if it was left alone because it was away. False if it was
    neither. Raises UnknownSink."""
    _require_known(settings, name)
    now = database_time(session)
    changed = sinks.release(session, name, now)
    if changed:
        audit.note(session, Deed(actor, "sink.release", name, reason), now)
    return changed


def resend(database: Database, settings: Settings, name: str, selection: Selection, *, actor: str) -> int:
    """Let events be sent again, whether they were given up or delivered; returns how many. They keep their ids, and of
    one resource they come in order. Each transaction leaves an audit entry of its own. Raises UnknownSink, and
    SinkRefuses for a selection that chooses nothing or too much."""
    _require_known(settings, name)
    with database.read() as session:
        chosen = _chosen(session, settings, name, selection)
    if not chosen:
        raise SinkRefuses("there is no such event that the sink was offered already")
    count = 0
    for first in range(0, len(chosen), SENT_AGAIN_TOGETHER):
        some = chosen[first : first + SENT_AGAIN_TOGETHER]
        count += unless_crossed(partial(_send_again, database, name, some, actor))
    return count


def _send_again(database: Database, name: str, some: Sequence[NumberedEvent], actor: str) -> int:
    with database.write() as session:
        now = database_time(session)
        count = undelivered.send_again(session, name, some, now)
        details = {"events": count, "first": some[0].sequence, "last": some[-1].sequence}
        audit.note(session, Deed(actor, "sink.resend", name, details=details), now)
    return count


def _chosen(session: Session, settings: Settings, name: str, selection: Selection) -> Sequence[NumberedEvent]:
    room = MOST_WAITING - undelivered.count_waiting(session, name, MOST_WAITING)
    if not room:
        raise SinkRefuses(f"{MOST_WAITING} events wait for {name} already: send again when they are delivered")
    if selection.given_up:
        return sent_again.given_up(session, name, min(MOST_SENT_AGAIN, room))
    position = outbox.sink_position(session, name)
    if selection.event is not None:
        found = sent_again.by_id(session, selection.event, position)
        return [found] if found is not None else []
    found_in = sent_again.happened(session, selection.since, selection.until, position, MOST_SENT_AGAIN + 1)
    if len(found_in) > MOST_SENT_AGAIN:
        raise SinkRefuses(f"that is more than {MOST_SENT_AGAIN} events: choose a shorter time")
    wanted = terms(settings)[name].wanted if name in settings.sinks else EVERYTHING
    chosen = [item for item in found_in if wanted.passes(item.event)]
    if len(chosen) > room:
        raise SinkRefuses(f"that is {len(chosen)} events, and only {room} more may wait for {name}")
    return chosen


def forget(database: Database, settings: Settings, name: str, *, actor: str) -> None:
    """Delete the cursor and the log of a sink that is configured no more. Raises SinkRefuses for one that is, and
    UnknownSink where nothing is known of it."""
    if name in names(settings):
        raise SinkRefuses(f"{name} is configured: remove it from the settings of every process first")
    with database.write() as session:
        now = database_time(session)
        if not sinks.forget(session, name):
            raise UnknownSink("there is no such sink")
        audit.note(session, Deed(actor, "sink.forget", name), now)
    gone = FORGOTTEN_AT_ONCE
    while gone == FORGOTTEN_AT_ONCE:
        with database.write() as session:
            gone = sinks.forget_log(session, name, FORGOTTEN_AT_ONCE)


def _require_known(settings: Settings, name: str) -> None:
    if name not in names(settings):
        raise UnknownSink(f"there is no sink {name!r}" if name.isprintable() else "there is no such sink")
