"""`verisink up` with half of what it does: it only receives, or does everything else."""

import json
import time
from collections.abc import Mapping

import httpx
import pytest
from click.testing import CliRunner

from tests.flow.conftest import Install
from tests.support.evidence import OPEN_WORK, Flow, assert_nothing_lost, flow
from tests.support.processes import Child, Installation, answers
from web import commands
from web.simulator.credentials import Setting
from web.simulator.records import Ref
from web.simulator.server import Simulator

pytestmark = pytest.mark.flow

SWEEP_SECONDS = 1.2
"""In which a scheduler, if there were one, would have swept."""


def decide(running: Flow) -> Ref:
    world = running.simulator.world
    record = world.change(world.create("gu1", "kyc-validation").ref, "approve")
    assert running.tell(record).status == 200
    return record.ref


def assert_waits(running: Flow) -> None:
    time.sleep(SWEEP_SECONDS)
    assert len(running.rows(OPEN_WORK)) == 1
    assert running.rows("SELECT * FROM leases") == []
    assert running.simulator.world.calls() == []


def assert_takes_no_webhooks(running: Flow) -> None:
    world = running.simulator.world
    for provider, kind in (("gu1", "kyc-validation"), ("verifik", "biometric-validation")):
        # The last segment of Verifik's path is a token: that route is closed as well.
        receipt = running.tell(world.change(world.create(provider, kind).ref, "approve"))
        assert (receipt.status, json.loads(receipt.answer)["error"]) == (
            503,
            "this process takes no webhooks: it was started with --no-receive",
        )
    url = running.installation.url
    stranger = httpx.post(f"{url}/webhooks/nobody", content=b"{}", trust_env=False)
    assert (stranger.status_code, stranger.headers["Retry-After"]) == (503, "5")
    assert running.rows("SELECT id FROM deliveries") == []
    assert running.rows("SELECT id FROM quarantined_deliveries") == []


def assert_serves_the_rest(running: Flow) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/api/v1/results"):
        assert running.api.get(path).status_code == 200, path


def told_webhooks(child: Child) -> Mapping[str, str]:
    told: dict[str, dict[str, str]] = json.loads(child.output.partition("\n")[0])
    return told["webhooks"]


def test_what_is_only_received_waits_for_a_worker(install: Install, simulator: Simulator):
    installation = install()
    child = installation.up("--receive-only")
    assert set(told_webhooks(child)) == {"persona", "verifik", "gu1", "yoti"}
    with flow(simulator, installation, child.url) as running:
        ref = decide(running)
        assert_waits(running)
        assert_serves_the_rest(running)
        assert child.stop() == 0

        whole = installation.up()
        running.result(ref, stage="decided", outcome="approved")
        assert_nothing_lost(running)
    assert whole.stop() == 0


@pytest.mark.postgres
def test_the_halves_together_are_whole_without_a_broker(postgres_url: str, install: Install, simulator: Simulator):
    settings: dict[str, Setting] = {"database_url": postgres_url}
    desk, door = install("desk", **settings), install("door", **settings)
    worker = desk.up("--no-receive")
    assert told_webhooks(worker) == {}
    with flow(simulator, desk, worker.url) as running:
        assert_takes_no_webhooks(running)
        assert_serves_the_rest(running)
    receiver = door.up("--receive-only")
    with flow(simulator, door, receiver.url) as running:
        running.result(decide(running), stage="decided", outcome="approved")
        assert_nothing_lost(running)
    assert [receiver.stop(), worker.stop()] == [0, 0]


def programs(child: Child) -> list[str]:
    """The modules that a supervisor's children run."""
    return sorted(process.cmdline()[2] for process in child.children().values())


def start(installation: Installation, option: str, modules: list[str]) -> Child:
    child = installation.up(option)
    child.ready(lambda: programs(child) == modules)
    child.ready(lambda: answers(installation.url + "/readyz"))
    return child


@pytest.mark.postgres
@pytest.mark.redis
def test_the_halves_together_are_whole_with_a_broker(
    postgres_url: str, redis_url: str, install: Install, simulator: Simulator
):
    settings: dict[str, Setting] = {"database_url": postgres_url, "broker_url": redis_url}
    desk, door = install("desk", **settings), install("door", **settings)
    receiver = start(door, "--receive-only", ["web.process"])
    with flow(simulator, door, receiver.url) as running:
        ref = decide(running)
        assert_waits(running)

        worker = start(desk, "--no-receive", ["web.process", "worker.process"])

        running.result(ref, stage="decided", outcome="approved")
        assert_nothing_lost(running)
    refused = httpx.post(f"{desk.url}/webhooks/gu1", content=b"{}", trust_env=False)
    assert (refused.status_code, refused.json()["error"]) == (
        503,
        "this process takes no webhooks: it was started with --no-receive",
    )
    assert [receiver.stop(), worker.stop()] == [0, 0]


def test_neither_half_is_a_mistake():
    result = CliRunner().invoke(commands.up, ["--receive-only", "--no-receive"])

    assert result.exit_code == 2
    assert "would leave nothing to run" in result.stderr
