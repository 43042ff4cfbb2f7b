"""A provider that hangs delays nobody else: in one process, and on PostgreSQL, Redis and two workers."""

from collections.abc import Iterator
from statistics import quantiles

import pytest

from tests.flow.conftest import NO_LIMIT, Install
from tests.store import databases
from tests.support.evidence import Flow, flow
from tests.support.processes import eventually
from tests.support.services import Postgres
from web.simulator.faults import Faults
from web.simulator.notifications import compose
from worker.clock import monotonic

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]

SESSIONS = 40
INQUIRIES = 30
HANGS = 20.0

SLOWER = 2.0
MARGIN = 0.5
"""What is normal is measured beside it, on a machine that does other things as well: twice that, and half a second."""

SETTINGS = {"call_deadline_seconds": HANGS, "lease_seconds": 60}


@pytest.fixture
def migrated_url(postgres_server: Postgres) -> Iterator[str]:
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["embedded", pytest.param("distributed", marks=[pytest.mark.postgres, pytest.mark.redis])])
def running(request: pytest.FixtureRequest, install: Install) -> Iterator[Flow]:
    if request.param == "embedded":
        made = install(**SETTINGS)
        url = made.up().url
    else:
        broker, database = request.getfixturevalue("redis_url"), request.getfixturevalue("migrated_url")
        made = install(database_url=database, broker_url=broker, worker_processes=2, **SETTINGS)
        made.worker(2)
        url = made.web().url
    simulator = request.getfixturevalue("simulator")
    with flow(simulator, made, url) as found:
        yield found
        # Nothing hangs any more, or the workers would wait for it when they are told to end.
        simulator.faults.set("yoti", Faults())


def waits(running: Flow) -> list[float]:
    """Seconds from each acknowledgement to the result, one inquiry after another."""
    found = []
    for _ in range(INQUIRIES):
        world = running.simulator.world
        inquiry = world.change(world.create("persona", "inquiry").ref, "approve")
        assert running.tell(inquiry).acknowledged
        began = monotonic()
        running.result(inquiry.ref, outcome="approved")
        found.append(monotonic() - began)
    return found


def test_a_provider_that_hangs_delays_no_other(running):
    world, faults = running.simulator.world, running.simulator.faults
    faults.set("persona", Faults(rate_limit_per_minute=NO_LIMIT))
    before = waits(running)
    faults.set("yoti", Faults(latency=HANGS))
    for _ in range(SESSIONS):
        assert running.notifier.send(compose(world, world.create("yoti", "session"))).acknowledged
    eventually(lambda: any(call.provider == "yoti" for call in world.calls()), "Yoti is being called")

    meanwhile = waits(running)

    assert not running.rows("SELECT 1 AS one FROM v1_results WHERE provider = 'yoti'"), "Yoti hangs all the while"
    for share in (9, 18):  # the median and the 95th of a hundred
        normal, now = quantiles(before, n=20)[share], quantiles(meanwhile, n=20)[share]
        assert now <= SLOWER * normal + MARGIN, (before, meanwhile)
