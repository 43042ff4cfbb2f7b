"""The background run of replays: short steps, done by whoever leads the sweep, until nothing is left.

A replay feeds a window of items at a time, so that pausing and cancelling act at once and thousands never flood the
queue. A step holds the replay's row, so two leaders do no harm: one of them does nothing.
"""

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

import structlog

from worker.clock import monotonic
from worker.domain.replays import Ended, ItemOutcome, ItemState, ReplayLevel, ReplayState
from worker.log import where
from worker.pipeline import reingest, reproject
from worker.pipeline.reingest import Reingester, Reread
from worker.pipeline.replay import careful
from worker.pipeline.reproject import Examined, Reprojector
from worker.providers.base import Provider
from worker.settings import Source
from worker.store import replays
from worker.store.engine import UNAVAILABLE, Database, Session, database_time, is_refusal
from worker.store.replays import Item, Replay

ADVANCE_SECONDS = 0.5
"""How long one sweep works on replays. With more, nudges and the leader's lease would wait for it."""

WINDOW = 200
"""Items of one source that are asked for and not here yet. At most so many still come after a pause; with fewer, a fast
source would be idle from one sweep to the next."""

ASKED_AT_ONCE = 50
"""Of each source in one transaction, for which everybody who writes waits on SQLite."""

READ_AT_ONCE = 20
"""Stored documents read and written in one step."""

NOBODYS = Ended(ItemOutcome.SKIPPED, "its source is not configured")

log = structlog.get_logger(__name__)

Looked: TypeAlias = Sequence[tuple[Item, Examined | Reread | Ended]]
"""Items, and what was found in them."""


class Replayer:
    """Advances every unfinished replay."""

    def __init__(
        self,
        database: Database,
        configured: Mapping[str, Source],
        providers: Mapping[str, Provider],
        nudge: Callable[[str], None],
    ) -> None:
        self._database = database
        self._sources = sorted(configured)
        self._reprojector = Reprojector(configured, providers)
        self._reingester = Reingester(configured, providers)
        self._nudge = nudge
        self._sweeps = 0

    def advance(self) -> None:
        """Do what can be done now, for a bounded time; replays take turns, also at being the first."""
        with self._database.read() as session:
            open_ones = deque(replays.unfinished(session))
        self._sweeps += 1
        open_ones.rotate(self._sweeps)
        ends = monotonic() + ADVANCE_SECONDS
        while open_ones:
            replay = open_ones.popleft()
            if self._step(replay, ends):
                open_ones.append(replay)
            if monotonic() > ends:
                return

    def _step(self, replay: Replay, ends: float) -> bool:
        """One step of one replay; whether more can be done at once."""
        if replay.level is ReplayLevel.RETRIEVE:
            return self._step_asking(replay.id)
        return replay.state is ReplayState.RUNNING and self._step_reading(replay, ends)

    def _step_asking(self, replay_id: uuid.UUID) -> bool:
        with self._database.write() as session:
            replay = replays.lock(session, replay_id)
            if replay is None or replay.finished_at is not None:
                return False
            now = database_time(session)
            replay = replays.finish(session, replay, replays.arrived(session, replay_id), now)
            pending = replays.asked(session, replay_id)
            fed = self._feed(session, replay, pending, now) if replay.state is ReplayState.RUNNING else {}
            nobodys = pending.keys() - set(self._sources)
            if not fed and nobodys == pending.keys():
                replay = replays.finish_all(session, replay, NOBODYS, now, state=ItemState.ASKED, sources=nobodys)
                self._end_if_done(session, replay, now)
        for source in fed:
            self._nudge(source)
        return any(count == ASKED_AT_ONCE for count in fed.values())

    def _feed(self, session: Session, replay: Replay, pending: Mapping[str, int], now: datetime) -> dict[str, int]:
        """Ask for more, of each source as many as its window has room for; returns how many."""
        fed = {}
        # Always in the same order, in which receivers lock resources too.
        for source in self._sources:
            room = min(WINDOW - pending.get(source, 0), ASKED_AT_ONCE)
            fed[source] = replays.ask(session, replay.id, source, room, now) if room > 0 else 0
        return {source: count for source, count in fed.items() if count}

    def _end_if_done(self, session: Session, replay: Replay, now: datetime) -> None:
        nobodys = replays.waiting_sources(session, replay.id) - set(self._sources)
        if nobodys and replay.state is ReplayState.RUNNING:
            replay = replays.finish_all(session, replay, NOBODYS, now, sources=nobodys)
        if not replays.any_left(session, replay.id):
            replays.end(session, replay, now)
            log.info("replay_ended", replay=str(replay.id), level=replay.level, outcomes=dict(replay.outcomes))

    def _step_reading(self, replay: Replay, ends: float) -> bool:
        with self._database.read() as session:
            batch = replays.waiting(session, replay.id, READ_AT_ONCE)
        # Read outside of any transaction that writes: on SQLite everybody would wait for it.
        looked = self._look(batch, ends)
        for part in _parts(looked):
            with self._database.write() as session:
                locked = replays.lock(session, replay.id)
                if locked is None or locked.state is not ReplayState.RUNNING:
                    return False
                self._write(session, locked, part, database_time(session))
            for source in {item.source for item, found in part if _wants_calls(found)}:
                self._nudge(source)
        return bool(batch)

    def _look(self, batch: Sequence[Item], ends: float) -> Looked:
        looked: list[tuple[Item, Examined | Reread | Ended]] = []
        for item in batch:
            if looked and monotonic() > ends:
                break
            with self._database.read() as session:
                looked.append((item, self._examine(session, item)))
        return looked

    def _examine(self, session: Session, item: Item) -> Examined | Reread | Ended:
        if item.delivery_id is not None:
            delivery_id = item.delivery_id
            return careful(lambda: self._reingester.examine(session, item.source, delivery_id))
        resource_id = item.resource_id
        if resource_id is None:
            return Ended(ItemOutcome.SKIPPED, "it is gone")
        return careful(lambda: self._reprojector.examine(session, item.source, resource_id))

    def _write(self, session: Session, replay: Replay, looked: Looked, now: datetime) -> None:
        waiting = replays.still_waiting(session, replay.id, [item.position for item, _ in looked])
        endings = {
            item.position: ended
            for item, found in looked
            if item.position in waiting and (ended := _write_one(session, found, now)) is not None
        }
        replay = replays.finish(session, replay, endings, now)
        if not replays.any_left(session, replay.id):
            self._end_if_done(session, replay, now)


def _parts(looked: Looked) -> list[Looked]:
    """What is written in one transaction each. What wants other resources waits for their rows, and stands alone: with
    rows of its own in hand it would cross receivers, which hold those and want these."""
    parts: list[Looked] = [[one] for one in looked if _wants_calls(one[1])]
    together = [one for one in looked if not _wants_calls(one[1])]
    if together or not parts:
        parts.append(together)
    return parts


def _wants_calls(found: Examined | Reread | Ended) -> bool:
    if isinstance(found, Examined):
        return bool(found.news)
    return isinstance(found, Reread) and bool(found.resources)


def _write_one(session: Session, found: Examined | Reread | Ended, now: datetime) -> Ended | None:
    """Write what was found; None if it must be looked at again. What cannot be written ends this item alone."""
    if isinstance(found, Ended):
        return found
    try:
        with session.begin_nested():
            if isinstance(found, Reread):
                return reingest.write(session, found, now)
            outcome = ItemOutcome.UNCHANGED if found.settled else reproject.write(session, found, now)
            return None if outcome is None else Ended(outcome)
    except Exception as error:
        if isinstance(error, UNAVAILABLE) and not is_refusal(error):
            raise
        log.error("replay_bug", error=where(error))
        return Ended(ItemOutcome.FAILED, where(error))
