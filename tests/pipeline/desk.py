"""An operator's desk beside a plant: plans, starts and advances replays, and looks at what came of them."""

from collections.abc import Mapping
from uuid import UUID

from tests.pipeline.plant import Plant, settings
from tests.store.play import rows
from worker.domain.replays import ReplayLevel, Selection
from worker.pipeline import replay
from worker.pipeline.replay import Planner, ReplayPlan
from worker.pipeline.replay_run import Replayer
from worker.providers.base import Provider
from worker.providers.registry import providers
from worker.reports import replays
from worker.reports.replays import Item, ItemFilter, Replay
from worker.store.replays import Order
from worker.store.tables import audit_entries

ACTOR = "cli:maria"
ROUNDS = 60


class Desk:
    """Every level, with the providers of the registry or others in their place."""

    def __init__(self, plant: Plant, known: Mapping[str, Provider] | None = None, **source: object) -> None:
        self.plant = plant
        self.database = plant.database
        self.sources = settings(plant.simulator.url, source).sources
        self.providers = {**providers(), **(known or {})}
        self.nudges: list[str] = []
        self.replayer = self.leader()

    def leader(self, *slugs: str) -> Replayer:
        """One more leader of the sweep, which knows these sources or all."""
        known = {slug: source for slug, source in self.sources.items() if slug in slugs or not slugs}
        return Replayer(self.database, known, self.providers, self.nudges.append)

    def plan(self, level: ReplayLevel, selection: Selection) -> ReplayPlan:
        return Planner(self.database, self.sources, self.providers).plan(level, selection)

    def start(self, level: ReplayLevel, selection: Selection, reason: str = "because") -> UUID:
        with self.database.write() as session:
            return replay.start(session, Order(level, selection, ACTOR, reason))

    def advance(self) -> None:
        self.replayer.advance()

    def run(self, level: ReplayLevel, selection: Selection) -> Replay:
        """A replay from its start to its end, with a worker that drains whatever is due."""
        return self.until_ended(self.start(level, selection))

    def until_ended(self, replay_id: UUID) -> Replay:
        for _ in range(ROUNDS):
            self.advance()
            if self.look(replay_id).finished_at is not None:
                return self.look(replay_id)
            for source in self.sources:
                self.plant.drain(source)
        raise AssertionError(f"it never ended: {self.look(replay_id)}")

    def look(self, replay_id: UUID) -> Replay:
        with self.database.read() as session:
            found = replays.replay(session, replay_id)
        assert found is not None
        return found

    def items(self, replay_id: UUID) -> tuple[Item, ...]:
        with self.database.read() as session:
            return replays.items(session, replay_id, ItemFilter(), limit=10_000)

    def deeds(self) -> list[str]:
        """What the audit says was done, in order."""
        return [str(row.action) for row in rows(self.database, audit_entries)]
