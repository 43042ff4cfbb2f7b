"""One webhook can be followed through the log, from the receiver's line to the event's, by what the lines carry."""

import json

import pytest

from tests.support.evidence import flow
from tests.support.processes import eventually

pytestmark = [pytest.mark.flow]


def lines(child):
    return [json.loads(line) for line in child.log.splitlines() if line.startswith("{")]


def test_a_webhook_is_followed_from_its_delivery_to_its_event(install, simulator):
    home = install()
    up = home.up()
    with flow(simulator, home, up.url) as running:
        world = running.simulator.world
        told = [running.tell(world.change(world.create("gu1", "kyc-validation").ref, "approve")) for _ in range(3)]
        delivery = json.loads(told[1].answer)["delivery"]
        decided = "verification.result.decided"
        eventually(lambda: len(up.logged(decided)) == 3, "three events")
    up.stop()

    [received] = up.logged("delivery_received", delivery=delivery)
    [trail] = received["trails"]
    [written] = up.logged("attempt_written", source=received["source"], trail=trail)
    [event] = up.logged(decided, source=received["source"], trail=trail)
    assert (written["attempt"], written["outcome"]) == (1, "stored")
    assert written["task"]
    assert received["timestamp"] < written["timestamp"] < event["timestamp"]
    # A resource's id leads to all of its lines, and to no other's.
    assert {line["trail"] for line in lines(up) if line.get("resource") == written["resource"]} == {trail}


def test_a_failed_call_s_lines_carry_the_same(install, simulator):
    """What a pool's thread logs is about its own resource, and knows the task that began it."""
    home = install(max_document_bytes=1024)
    up = home.up()
    with flow(simulator, home, up.url) as running:
        world = running.simulator.world
        running.tell(world.change(world.create("persona", "inquiry").ref, "approve"))
        [written, *_] = eventually(lambda: up.logged("attempt_written", kind="inquiry"), "a failure")
    up.stop()

    assert written["outcome"] == "failed"
    assert {"source", "kind", "resource", "attempt", "task"} <= written.keys()
