"""A reconciler beside a plant's retriever, and a simulator whose world is as old as a test says."""

from datetime import datetime, timedelta

from sqlalchemy import select, update

from tests.pipeline.plant import CREDENTIALS, Plant, settings
from tests.store import play
from web.simulator.loss import lose
from web.simulator.records import Action, Record
from web.simulator.server import Simulator
from web.simulator.world import World
from worker.clock import utc_now
from worker.pipeline.budget import Budgets
from worker.pipeline.list_calls import Parts
from worker.pipeline.reconcile import Order, Reconciler, Report
from worker.providers.client import ProviderClient
from worker.providers.registry import providers
from worker.store import reconciliations
from worker.store.tables import reconciliations as runs
from worker.store.tables import results

AN_HOUR = timedelta(hours=1)


class Clock:
    """Runs `behind` the true one: what is made by it happened that long ago."""

    def __init__(self, behind: timedelta = AN_HOUR) -> None:
        self.behind = behind

    def __call__(self) -> datetime:
        return utc_now() - self.behind


class Reconciling:
    """Runs by hand, as the command makes them."""

    def __init__(self, plant: Plant, clock: Clock) -> None:
        self.plant = plant
        self.clock = clock
        self.world = plant.world
        self.reconciler = self.build()

    def build(self, source: dict[str, object] | None = None, *, deadline: float = 5.0) -> Reconciler:
        chosen = settings(self.plant.simulator.url, source, call_deadline_seconds=deadline)
        client = ProviderClient(call_deadline=deadline, max_bytes=chosen.max_document_bytes)
        self.plant._clients.append(client)
        self.parts = Parts(
            settings=chosen,
            database=self.plant.database,
            providers=providers(),
            client=client,
            budgets=Budgets(chosen.sources, None),
            nudge=self.plant.nudges.append,
        )
        self.reconciler = Reconciler(self.parts)
        return self.reconciler

    def run(self, source: str, *, hours: float = 24, dry_run: bool = False, actor: str = "tests", **more) -> Report:
        since = play.now(self.plant.database) - timedelta(hours=hours)
        return self.reconciler.run(Order(source, since, actor, dry_run), **more)

    def lost(self, provider: str, kind: str, action: Action | None = "approve") -> Record:
        """A record of which the provider told nobody."""
        record = self.world.create(provider, kind)
        record = self.world.change(record.ref, action) if action else record
        if provider != "gu1":
            lose(self.world, record)
        return record

    def rows(self):
        return play.rows(self.plant.database, runs)

    def last(self, source: str):
        with self.plant.database.read() as session:
            return reconciliations.last(session, source)


def aged_simulator(clock: Clock) -> Simulator:
    world = World(5, clock=clock, organization_id=CREDENTIALS.gu1_organization_id)
    return Simulator(CREDENTIALS, world=world, seed=5)


def age_results(here: Reconciling, by: timedelta) -> None:
    """Lets time pass since every result was read and changed."""
    with here.plant.database.write() as session:
        for row in session.execute(select(results.c.resource_id, results.c.retrieved_at, results.c.updated_at)).all():
            aged = {"retrieved_at": row.retrieved_at - by, "updated_at": row.updated_at - by}
            session.execute(update(results).where(results.c.resource_id == row.resource_id).values(**aged))
