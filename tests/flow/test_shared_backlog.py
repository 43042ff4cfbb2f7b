"""A backlog is worked on by all who have nothing else to do, whoever was up first."""

from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from tests.flow.conftest import NO_LIMIT, Install
from tests.store import databases
from tests.support.processes import Child, eventually
from tests.support.services import Postgres
from web.simulator.faults import Faults
from web.simulator.server import Simulator
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause
from worker.store import resources
from worker.store.engine import Database, database_time
from worker.store.resources import Want

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis]

BACKLOG = 1000
SLOW, FAST = 0.5, 0.05
SHARED = 150
SETTINGS = {"worker_processes": 1, "worker_concurrency": 4}


@pytest.fixture
def database(postgres_server: Postgres) -> Iterator[tuple[str, Database]]:
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    opened = Database(url)
    yield url, opened
    opened.dispose()
    postgres_server.drop_database(url)


def test_those_who_come_later_get_their_share(
    database: tuple[str, Database], redis_url: str, install: Install, simulator: Simulator
):
    """The first has had all nudges before the others are there, and would be busy for fifty seconds."""
    url, opened = database
    simulator.faults.set("persona", Faults(latency=SLOW, rate_limit_per_minute=NO_LIMIT))
    installation = install(database_url=url, broker_url=redis_url, **SETTINGS)
    found = [simulator.world.create("persona", "inquiry").ref for _ in range(BACKLOG)]
    keys = [ResourceKey("persona", ResourceRef(ref.kind, ref.external_id)) for ref in found]
    with opened.write() as session:
        wants = {key: Want("persona", "sandbox", Cause.WEBHOOK) for key in keys}
        resources.mark_wanted(session, wants, database_time(session))

    first = installation.worker()
    first.ready(partial(first.logged, "attempt_written"))
    workers = [first, installation.worker(), installation.worker()]
    for worker in workers:
        worker.ready(partial(worker.logged, "attempt_written"))
    before = shares(workers)
    simulator.faults.set("persona", Faults(latency=FAST, rate_limit_per_minute=NO_LIMIT))
    eventually(lambda: sum(shares(workers)) >= sum(before) + SHARED, "many more are stored")

    share = [now - then for then, now in zip(before, shares(workers), strict=True)]
    assert min(share) >= SHARED // 10, share


def shares(workers: Sequence[Child]) -> list[int]:
    """How many attempts each has written."""
    return [len(worker.logged("attempt_written")) for worker in workers]
