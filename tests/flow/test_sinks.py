"""Events leave Verisink as its users run it: into a Redis stream, with what was configured, while the Redis comes and
goes."""

import json
from collections.abc import Iterator

import pytest

from tests.flow.conftest import Install
from tests.support import canaries
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import Installation, eventually
from tests.support.services import RedisServer
from tests.support.streams import stream_entries
from web.simulator.server import Simulator

pytestmark = [pytest.mark.flow, pytest.mark.redis]

STREAM = "tests:events"
DECIDED = "verification.result.decided"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as own:
        yield own


def sinks(url: str) -> dict[str, str]:
    return {
        "VERISINK_SINKS__ALL__TYPE": "redis_stream",
        "VERISINK_SINKS__ALL__URL": url,
        "VERISINK_SINKS__ALL__STREAM": STREAM,
        "VERISINK_SINKS__DECIDED__TYPE": "redis_stream",
        "VERISINK_SINKS__DECIDED__URL": url,
        "VERISINK_SINKS__DECIDED__STREAM": f"{STREAM}:decided",
        "VERISINK_SINKS__DECIDED__TYPES": DECIDED,
    }


def entries(server: RedisServer, stream: str) -> list[dict[str, str]]:
    return stream_entries(server.url, stream)


def decide(running: Flow, count: int) -> None:
    world = running.simulator.world
    for _ in range(count):
        running.tell(world.change(world.create("gu1", "kyc-validation").ref, "approve"))


def numbered(running: Flow) -> list[tuple[str, str]]:
    return [(str(row["sequence"]), str(row["id"])) for row in running.rows("SELECT * FROM v1_events ORDER BY sequence")]


def test_every_event_is_in_the_stream_and_a_filter_holds(install: Install, simulator: Simulator, server: RedisServer):
    installation = install()
    child = installation.up(**sinks(server.url))
    with flow(simulator, installation, child.url) as running:
        decide(running, 3)
        running.settled()
        eventually(lambda: len(entries(server, STREAM)) == len(numbered(running)), "every event is in the stream")

        found = entries(server, STREAM)
        assert [(entry["sequence"], entry["id"]) for entry in found] == numbered(running)
        wanted = [entry for entry in found if entry["type"] == DECIDED]
        assert len(wanted) == 3
        eventually(lambda: entries(server, f"{STREAM}:decided") == wanted, "the decisions are in theirs")
        assert {json.loads(entry["data"])["source"] for entry in found} == {"gu1"}
        assert canaries.leaks(json.dumps(found), simulator.credentials) == []
        assert_nothing_lost(running)
    assert child.stop() == 0


def test_results_do_not_wait_for_a_sink_that_is_away(install: Install, simulator: Simulator, server: RedisServer):
    server.pause()
    installation = install()
    child = installation.up(**sinks(server.url))
    with flow(simulator, installation, child.url) as running:
        decide(running, 2)
        running.settled()
        eventually(lambda: child.logged("sink_failed", sink="all"), "the outage is told")
        assert lag(installation, "all") > 0
        assert lag(installation, "log") == 0

        server.resume()

        eventually(lambda: child.logged("sink_recovered", sink="all"), "and its end")
        assert {(entry["sequence"], entry["id"]) for entry in entries(server, STREAM)} == set(numbered(running))
        assert lag(installation, "all") == 0
    assert child.stop() == 0
    assert len(child.logged("sink_failed", sink="all")) == 1


def lag(installation: Installation, sink: str) -> int:
    """What `verisink status` says."""
    told = json.loads(installation.run("status", "--json").output)
    [found] = [one["lag"] for one in told["sinks"] if one["sink"] == sink]
    return int(found)
