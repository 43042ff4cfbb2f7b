"""Events leave Verisink as its users run it: into a Redis stream, with what was configured, while the Redis comes and
goes."""

import json
from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import cast

import pytest

from tests.flow.conftest import Install
from tests.support import canaries
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import Installation, eventually
from tests.support.services import RedisServer, redis_client
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


def test_sinks_that_hang_or_are_dead_delay_neither_results_nor_another_sink(
    install: Install, simulator: Simulator, server: RedisServer
):
    with RedisServer() as hanging, RedisServer() as dead:
        hanging.pause()
        dead.kill()
        installation = install()
        named = {"FINE": server.url, "HANGING": hanging.url, "DEAD": dead.url}
        settings = {f"VERISINK_SINKS__{name}__TYPE": "redis_stream" for name in named}
        settings |= {f"VERISINK_SINKS__{name}__URL": url for name, url in named.items()}
        settings |= {f"VERISINK_SINKS__{name}__STREAM": STREAM for name in named}
        child = installation.up(**settings)
        with flow(simulator, installation, child.url) as running:
            for _ in range(6):
                decide(running, 1)
                running.settled()
            eventually(lambda: child.logged("sink_failed", sink="hanging"), "one hangs")
            eventually(lambda: child.logged("sink_failed", sink="dead"), "one is dead")
            eventually(lambda: len(entries(server, STREAM)) == len(numbered(running)), "the other has everything")
            assert median(lateness(server)) < SOON
            assert [standing(installation, name, settings)["state"] for name in ("fine", "hanging", "dead")] == [
                "active", "away", "away",
            ]  # fmt: skip

            assert installation.run("sinks", "hold", "fine", "--reason", "their release", **settings).wait() == 0
            before = len(numbered(running))
            decide(running, 2)
            running.settled()
            eventually(lambda: len(numbered(running)) > before, "there are more events")
            assert len(entries(server, STREAM)) == before
            assert (standing(installation, "fine", settings)["state"], lag(installation, "log")) == ("held", 0)
            assert installation.run("sinks", "release", "fine", **settings).wait() == 0
            eventually(lambda: len(entries(server, STREAM)) == len(numbered(running)), "what waited is delivered")
            assert [(entry["sequence"], entry["id"]) for entry in entries(server, STREAM)] == numbered(running)
            assert_nothing_lost(running)
        assert child.stop() == 0


SOON = 1.5
"""Seconds. A call to a Redis that hangs takes longer, and nobody waits for its end."""


def lateness(server: RedisServer) -> list[float]:
    """How long after it happened each event came into the stream, by its server's clock."""
    with redis_client(server.url) as client:
        # Stubs that cover every version of the protocol say little about this one.
        found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(STREAM))
    return [
        int(entry.partition(b"-")[0]) / 1000 - datetime.fromisoformat(fields[b"time"].decode()).timestamp()
        for entry, fields in found
    ]


def standing(installation: Installation, sink: str, settings: dict[str, str]) -> dict[str, object]:
    """What `verisink sinks` says."""
    told = json.loads(installation.run("sinks", "--json", **settings).output)
    [found] = [one for one in told if one["sink"] == sink]
    return dict(found)


def lag(installation: Installation, sink: str) -> int:
    """What `verisink status` says."""
    told = json.loads(installation.run("status", "--json").output)
    [found] = [one["lag"] for one in told["sinks"] if one["sink"] == sink]
    return int(found)
