"""A provider is mended, and what it had refused is replayed: by command and API, in real processes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.flow.conftest import Install
from tests.support.evidence import Flow, assert_events_once, flow
from tests.support.processes import eventually
from tests.support.services import Postgres
from web.simulator.faults import Answer
from web.simulator.records import Ref
from web.simulator.server import Simulator

pytestmark = pytest.mark.flow

PARKED = 60
SECONDS = 90.0
"""Sixty retrieves take a few seconds; machines that run many tests at once take long for everything."""


@pytest.fixture
def embedded(simulator: Simulator, install: Install) -> Iterator[Flow]:
    """`verisink up` on SQLite."""
    installation = install()
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        yield running


@pytest.fixture
def distributed(simulator: Simulator, install: Install, postgres_server: Postgres, redis_url: str) -> Iterator[Flow]:
    """A receiver and two workers on PostgreSQL and Redis; one of the workers leads the sweep."""
    url = postgres_server.create_database()
    with ExitStack() as stack:
        stack.callback(postgres_server.drop_database, url)
        installation = install(database_url=url, broker_url=redis_url, worker_processes=2)
        stack.callback(installation.close)
        assert installation.run("migrate").process.returncode == 0
        installation.worker(processes=2)
        web = installation.web()
        yield stack.enter_context(flow(simulator, installation, web.url))


@pytest.fixture(params=["embedded", pytest.param("distributed", marks=[pytest.mark.postgres, pytest.mark.redis])])
def running(request: pytest.FixtureRequest) -> Flow:
    found: Flow = request.getfixturevalue(request.param)
    return found


def parked(running: Flow, count: int) -> list[Ref]:
    """Results that the provider refused to serve once, and would serve now."""
    world, faults = running.simulator.world, running.simulator.faults
    records = [world.change(world.create("gu1", "kyc-validation").ref, "approve") for _ in range(count)]
    for record in records:
        faults.script(record.ref.external_id, [Answer(400, b"{}")])
    for record in records:
        assert running.tell(record).status == 200
    statement = "SELECT count(*) AS n FROM resources WHERE parked_at IS NOT NULL"
    eventually(lambda: running.rows(statement)[0]["n"] == count, "all are parked", SECONDS)
    return [record.ref for record in records]


def command(running: Flow, *arguments: str) -> str:
    child = running.installation.start(*arguments)
    assert child.wait(SECONDS) == 0, child.log
    return child.output


def test_a_lane_is_replayed_whole(running: Flow):
    refs = parked(running, PARKED)
    [lane] = json.loads(command(running, "lanes", "--json"))
    assert (lane["count"], lane["step"], lane["level"]) == (PARKED, "call", "retrieve")
    assert "400" in lane["sample"]
    plan = json.loads(command(running, "replay", "--lane", lane["lane"], "--plan", "--json"))
    assert (plan["count"], plan["calls"]) == (PARKED, PARKED)

    output = command(running, "replay", "--lane", lane["lane"], "--yes", "--reason", "gu1 is mended")

    assert f"{PARKED} items" in output
    assert f"{PARKED} of {PARKED} done: {PARKED} stored" in output
    assert output.endswith(f"finished: {PARKED} stored\n")
    running.settled(SECONDS)
    assert command(running, "lanes", "--json") == "[]\n"
    found = {row["external_id"]: row for row in running.rows("SELECT external_id, outcome FROM v1_results")}
    assert {found[ref.external_id]["outcome"] for ref in refs} == {"approved"}
    causes = running.rows("SELECT cause, count(*) AS n FROM attempts WHERE outcome = 'stored' GROUP BY cause")
    assert [(row["cause"], row["n"]) for row in causes] == [("replay", PARKED)]
    assert_events_once(running.rows("SELECT * FROM v1_events ORDER BY sequence"))


def test_a_replay_is_started_and_followed_through_the_api(embedded: Flow):
    parked(embedded, 5)
    made = start(embedded.api, parked=True, reason="first look")
    assert made["total"] == 5

    ended = eventually(lambda: ended_replay(embedded.api, made), "it ended", SECONDS)

    assert (ended["state"], ended["outcomes"]) == ("finished", {"stored": 5})
    late = embedded.api.post(f"/api/v1/replays/{made['id']}/cancel")
    assert (late.status_code, late.json()["detail"]) == (409, "the replay is finished already")
    again = start(embedded.api, level="reproject", source="gu1")
    ended = eventually(lambda: ended_replay(embedded.api, again), "it ended", SECONDS)
    assert ended["outcomes"] == {"unchanged": 5}


def start(api: httpx.Client, **body: object) -> dict[str, object]:
    answer = api.post("/api/v1/replays", json=body)
    assert answer.status_code == 202, answer.text
    found: dict[str, object] = answer.json()
    return found


def ended_replay(api: httpx.Client, made: dict[str, object]) -> dict[str, object] | None:
    found: dict[str, object] = api.get(f"/api/v1/replays/{made['id']}").json()
    return found if found["finished_at"] else None
