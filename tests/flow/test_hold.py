"""A source that an operator holds: webhooks are taken, nothing is called, and all is retrieved after the release."""

import json
from collections.abc import Sequence

import pytest

from tests.flow.conftest import NO_LIMIT, Install
from tests.support.evidence import Flow, assert_nothing_lost, decoded, flow
from tests.support.processes import Installation, eventually
from web.simulator.faults import Faults
from web.simulator.records import Record
from web.simulator.server import Simulator
from worker.cli.common import operator

pytestmark = pytest.mark.flow

WEBHOOKS = 20


def command(installation: Installation, *arguments: str) -> dict[str, object]:
    """What a `verisink` command prints as JSON."""
    child = installation.run(*arguments, "--json")
    assert child.process.returncode == 0, child.log
    return decoded(child.output)


def standing(installation: Installation, source: str) -> dict[str, object]:
    sources = command(installation, "status")["sources"]
    assert isinstance(sources, list)
    [found] = [item for item in sources if item["source"] == source]
    return decoded(json.dumps(found))


def tell_all(running: Flow, provider: str, kind: str, count: int = WEBHOOKS) -> Sequence[Record]:
    world = running.simulator.world
    records = [world.change(world.create(provider, kind).ref, "approve") for _ in range(count)]
    assert {running.tell(record).status for record in records} == {200}
    return records


def swept_again(running: Flow) -> None:
    """Wait for sweeps that would have rung for the held source, if anything could: another source's work is done, and
    the leader's lease was renewed several times since."""

    def lease() -> object:
        return running.rows("SELECT expires_at FROM leases WHERE name = 'sweep'")[0]["expires_at"]

    for _ in range(2):
        before = lease()
        eventually(lambda before=before: lease() != before, "a sweep")  # type: ignore[misc]


def source_events(running: Flow, source: str) -> list[object]:
    found = running.rows("SELECT type, source FROM v1_events ORDER BY sequence")
    return [
        str(row["type"]).rpartition(".")[2]
        for row in found
        if row["source"] == source and "source." in str(row["type"])
    ]


def test_a_hold_stops_the_calls_and_loses_nothing(install: Install, simulator: Simulator):
    installation = install()
    child = installation.up()
    held = command(installation, "hold", "yoti", "--reason", "the key is being rotated")
    assert held["changed"] is True
    with flow(simulator, installation, child.url) as running:
        told = tell_all(running, "yoti", "session")
        [other] = tell_all(running, "gu1", "kyc-validation", 1)
        running.result(other.ref, stage="decided")
        swept_again(running)

        assert simulator.world.calls("yoti") == []
        found = standing(installation, "yoti")
        assert (found["state"], found["waiting"]) == ("held", WEBHOOKS)
        assert found["reason"] == f"the key is being rotated (by {operator()})"
        assert float(str(command(installation, "status")["oldest_unfinished_seconds"])) > 0

    assert child.stop() == 0
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        told = [*told, *tell_all(running, "yoti", "session")]
        swept_again(running)
        assert simulator.world.calls("yoti") == []

        released = running.api.post("/api/v1/sources/yoti/release", json={"reason": "rotated"})

        assert released.json()["changed"] is True
        for record in told:
            running.result(record.ref, stage="decided")
        assert_nothing_lost(running)
        assert source_events(running, "yoti") == ["held", "released"]
        assert standing(installation, "yoti")["state"] == "active"


def test_calls_in_flight_end_when_a_hold_begins(install: Install, simulator: Simulator):
    simulator.faults.set("gu1", Faults(latency=1.5, rate_limit_per_minute=NO_LIMIT))
    installation = install()
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        [first] = tell_all(running, "gu1", "kyc-validation", 1)
        eventually(lambda: simulator.world.calls("gu1"), "a call is in flight")

        held = running.api.post("/api/v1/sources/gu1/hold", json={"reason": "why"}).json()
        assert held["source"]["claimed"] == 1
        [second] = tell_all(running, "gu1", "kyc-validation", 1)

        running.result(first.ref, stage="decided")
        swept_again(running)
        assert [call.status for call in simulator.world.calls("gu1")] == [200]
        assert standing(installation, "gu1")["state"] == "held"

        assert command(installation, "release", "gu1")["hold_ended"] is True
        running.result(second.ref, stage="decided")
        assert_nothing_lost(running)
        assert source_events(running, "gu1") == ["held", "released"]
