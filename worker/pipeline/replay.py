"""Replay: what an operator would do again, what that would cost and change, and the deeds of starting and stopping it.

The work itself is done in the background: see `worker.pipeline.replay_run`.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from worker.clock import monotonic
from worker.domain.model import ResourceKey, Verdict
from worker.domain.replays import Ended, ItemOutcome, ReplayLevel, ReplayState, Selection
from worker.domain.strict_json import Json
from worker.errors import ReplayIsOver, UnknownReplay
from worker.log import where
from worker.pipeline import reingest
from worker.pipeline.budget import low_limit
from worker.pipeline.reingest import Reingester, Reread
from worker.pipeline.reproject import Examined, Reprojector
from worker.providers.base import Provider
from worker.settings import Source
from worker.store import audit, replays, selection
from worker.store.audit import Deed
from worker.store.engine import UNAVAILABLE, Database, Session, database_time
from worker.store.replays import Order, Replay
from worker.store.selection import Chosen

PLAN_ITEMS = 10_000
"""Stored documents that a plan reads. More would take minutes, and the first ten thousand show which way it goes."""

PLAN_SECONDS = 20.0
"""Or for so long: somebody waits for the answer, and proxies give up after thirty seconds."""

PLAN_CHUNK = 100

log = structlog.get_logger(__name__)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShare:
    """One source's part of a replay. `seconds` is how long its calls take at what its budget leaves to replays."""

    source: str
    configured: bool
    count: int
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How many verdicts, or states of deliveries, would change in one way."""

    before: str
    after: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What a replay would do. `changes` and `outcomes` are of the `examined` items; `complete` says whether these are
    all. `seconds` are those of the slowest source, because sources do not wait for each other."""

    level: ReplayLevel
    selection: Mapping[str, Json]
    count: int
    calls: int
    seconds: float
    sources: tuple[SourceShare, ...]
    outcomes: Mapping[str, int]
    changes: tuple[Change, ...]
    examined: int
    complete: bool


@dataclass(slots=True)
class _Tally:
    """What the examined items came to."""

    examined: int = 0
    complete: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    named: set[ResourceKey] = field(default_factory=set)


class Planner:
    """Plans replays; changes nothing."""

    def __init__(self, database: Database, configured: Mapping[str, Source], providers: Mapping[str, Provider]) -> None:
        self._database = database
        self._sources = configured
        self._reprojector = Reprojector(configured, providers)
        self._reingester = Reingester(configured, providers)

    def plan(self, level: ReplayLevel, wanted: Selection) -> ReplayPlan:
        """What replaying `wanted` would come to now. Raises BadSelection."""
        wanted = wanted.checked(level)
        with self._database.read() as session:
            counts = selection.count_by_source(session, level, wanted)
        tally = _Tally() if level is ReplayLevel.RETRIEVE else self._examine(level, wanted)
        shares = tuple(self._share(level, source, count, tally) for source, count in counts.items())
        return ReplayPlan(
            level=level,
            selection=wanted.to_json(),
            count=sum(counts.values()),
            calls=sum(share.calls for share in shares),
            seconds=max((share.seconds for share in shares), default=0.0),
            sources=shares,
            outcomes=dict(sorted(tally.outcomes.items())),
            changes=tuple(
                Change(before=before, after=after, count=count)
                for (before, after), count in sorted(tally.changes.items(), key=lambda item: (-item[1], item[0]))
            ),
            examined=tally.examined,
            complete=tally.complete,
        )

    def _share(self, level: ReplayLevel, source: str, count: int, tally: _Tally) -> SourceShare:
        settings = self._sources.get(source)
        if settings is None:
            return SourceShare(source=source, configured=False, count=count, calls=0, seconds=0.0)
        calls = count
        if level is not ReplayLevel.RETRIEVE:
            calls = sum(1 for key in tally.named if key.source == source)
        seconds = calls * 60 / low_limit(settings.rate_limit_per_minute)
        return SourceShare(source=source, configured=True, count=count, calls=calls, seconds=round(seconds, 1))

    def _examine(self, level: ReplayLevel, wanted: Selection) -> _Tally:
        tally, after, ends = _Tally(), None, monotonic() + PLAN_SECONDS
        while True:
            with self._database.read() as session:
                some = selection.chunk(session, level, wanted, after=after, limit=PLAN_CHUNK)
                for item in some:
                    if tally.examined >= PLAN_ITEMS or monotonic() > ends:
                        tally.complete = False
                        return tally
                    self._note(tally, session, item)
            if len(some) < PLAN_CHUNK:
                return tally
            after = some[-1]

    def _note(self, tally: _Tally, session: Session, item: Chosen) -> None:
        tally.examined += 1
        if item.delivery_id is not None:
            delivery_id = item.delivery_id
            _note_delivery(tally, careful(lambda: self._reingester.examine(session, item.source, delivery_id)))
        elif item.resource_id is not None:
            resource_id = item.resource_id
            _note_resource(tally, careful(lambda: self._reprojector.examine(session, item.source, resource_id)))


def _note_resource(tally: _Tally, found: Examined | Ended) -> None:
    if isinstance(found, Ended):
        tally.outcomes[found.outcome] += 1
        return
    before, after = found.before.verdict, found.reading.verdict
    tally.named.update(ResourceKey(found.version.key.source, ref) for ref in found.news)
    if before != after:
        tally.outcomes[ItemOutcome.CHANGED] += 1
        tally.changes[_said(before, after.final), _said(after, before.final)] += 1
    else:
        same = found.before.says(found.reading)
        tally.outcomes[ItemOutcome.UNCHANGED if same else ItemOutcome.UPDATED] += 1


def _note_delivery(tally: _Tally, found: Reread | Ended) -> None:
    if isinstance(found, Ended):
        tally.outcomes[found.outcome] += 1
        return
    tally.outcomes[reingest.OUTCOMES[found.state]] += 1
    if reingest.rises(found.delivery.state, found.state):
        tally.changes[found.delivery.state, found.state] += 1
    tally.named.update(found.resources)


def _said(verdict: Verdict, other_is_final: bool) -> str:
    """A verdict in words; whether it is final is said where that differs."""
    words = f"{verdict.stage}/{verdict.outcome}"
    if verdict.final == other_is_final:
        return words
    return f"{words}/{'final' if verdict.final else 'open'}"


def careful(examine: Callable[[], Found]) -> Found | Ended:
    """What `examine` finds; a bug in a mapping ends one item, and neither a plan nor a replay."""
    try:
        return examine()
    except UNAVAILABLE:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown to those who asked for the replay
        log.error("replay_bug", error=where(error))
        return Ended(ItemOutcome.FAILED, where(error))


def start(session: Session, order: Order) -> uuid.UUID:
    """Write a replay with its items and an audit entry; a running worker does the rest. Raises BadSelection."""
    order = Order(order.level, order.selection.checked(order.level), order.actor, order.reason)
    now = database_time(session)
    replay_id, total = replays.create(session, order, now)
    details: dict[str, Json] = {"level": order.level, "selection": order.selection.to_json(), "total": total}
    audit.note(session, Deed(order.actor, "replay", str(replay_id), order.reason, details), now)
    return replay_id


def pause(session: Session, replay_id: uuid.UUID, *, actor: str) -> bool:
    """Ask for nothing more until it is resumed; what was asked for comes. False if it was paused already.

    Raises UnknownReplay, or ReplayIsOver.
    """
    return _change(session, replay_id, ReplayState.PAUSED, actor) is not None


def resume(session: Session, replay_id: uuid.UUID, *, actor: str) -> bool:
    """Go on with a paused replay; false if it runs already. Raises UnknownReplay, or ReplayIsOver."""
    return _change(session, replay_id, ReplayState.RUNNING, actor) is not None


def cancel(session: Session, replay_id: uuid.UUID, *, actor: str) -> bool:
    """Give up whatever has not been asked for; false if it was cancelled already.

    Raises UnknownReplay, or ReplayIsOver if it has finished.
    """
    replay = _locked(session, replay_id)
    if replay.state is ReplayState.CANCELLED:
        return False
    changed = _change(session, replay_id, ReplayState.CANCELLED, actor)
    if changed is not None:
        now = database_time(session)
        replays.finish_all(session, changed, Ended(ItemOutcome.CANCELLED), now)
        if not replays.any_left(session, replay_id):
            replays.end(session, changed, now)
    return changed is not None


_DEEDS = {
    ReplayState.PAUSED: "replay-pause",
    ReplayState.RUNNING: "replay-resume",
    ReplayState.CANCELLED: "replay-cancel",
}


def _change(session: Session, replay_id: uuid.UUID, state: ReplayState, actor: str) -> Replay | None:
    replay = _locked(session, replay_id)
    if replay.state in (ReplayState.FINISHED, ReplayState.CANCELLED):
        raise ReplayIsOver(f"the replay is {replay.state} already")
    if replay.state is state:
        return None
    replays.set_state(session, replay_id, state)
    audit.note(session, Deed(actor, _DEEDS[state], str(replay_id)), database_time(session))
    return Replay(replay.id, replay.level, state, replay.total, replay.outcomes, replay.finished_at)


def _locked(session: Session, replay_id: uuid.UUID) -> Replay:
    replay = replays.lock(session, replay_id, wait=True)
    if replay is None:
        raise UnknownReplay("there is no such replay")
    return replay
