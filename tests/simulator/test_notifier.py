"""Sending: retries, duplicates, order, and the record of what was acknowledged."""

import random

import httpx
import pytest

from tests.simulator.support import CREDENTIALS
from web.simulator.notifications import Flaw, compose, sign
from web.simulator.notifier import Notifier, told_of
from web.simulator.stories import STORIES
from web.simulator.traffic import Plan, run_traffic
from web.simulator.world import World


@pytest.fixture
def world():
    return World(5)


@pytest.fixture
def notifier(receiver):
    with Notifier(receiver.url, CREDENTIALS, threads=4, backoff={"persona": (0.01,) * 7}) as running:
        yield running


def test_send_delivers_once_and_keeps_the_receipt(world, notifier, receiver):
    record = world.create("gu1", "kyc-validation")
    notice = compose(world, record)

    receipt = notifier.send(notice)

    assert (receipt.status, receipt.acknowledged) == (200, True)
    assert receipt.answer == '{"status": "accepted"}'
    [(path, headers, body)] = receiver.received
    assert (path, body) == ("/webhooks/gu1", notice.body)
    assert "X-Webhook-Signature" in headers
    assert notifier.acknowledged_revisions() == {record.ref: 1}
    assert told_of(record, notifier.receipts())
    assert not told_of(world.change(record.ref, "approve"), notifier.receipts())


def test_a_refusal_is_no_acknowledgement(world, notifier, receiver):
    receiver.refusals = 1

    receipt = notifier.send(compose(world, world.create("persona", "inquiry")), flaw=Flaw.WRONG_SIGNATURE)

    assert (receipt.status, receipt.acknowledged) == (503, False)
    assert notifier.acknowledged() == []


def test_nobody_there_is_a_receipt_without_a_status(world):
    with Notifier("http://127.0.0.1:9", CREDENTIALS, backoff={}) as notifier:
        receipt = notifier.send(compose(world, world.create("yoti", "session")))

    assert receipt.status is None
    assert receipt.answer == "ConnectError"


def test_persona_tries_again_with_a_fresh_attempt_number(world, notifier, receiver):
    receiver.refusals = 2

    notifier.submit(compose(world, world.create("persona", "inquiry")))

    assert notifier.drain(10)
    assert [receipt.status for receipt in notifier.receipts()] == [503, 503, 200]
    attempts = [headers["Persona-Webhook-Attempts-Made"] for _, headers, _ in receiver.received]
    first = {headers["Persona-Webhook-First-Attempted-At"] for _, headers, _ in receiver.received}
    assert attempts == ["1", "2", "3"]
    assert len(first) == 1


def test_persona_gives_up_after_eight_attempts(world, notifier, receiver):
    receiver.refusals = 100

    notifier.submit(compose(world, world.create("persona", "inquiry")))

    assert notifier.drain(10)
    assert len(receiver.received) == 8


def test_the_others_try_once(world, notifier, receiver):
    receiver.refusals = 1

    notifier.submit(compose(world, world.create("gu1", "kyc-validation")))

    assert notifier.drain(10)
    assert [receipt.status for receipt in notifier.receipts()] == [503]


def test_duplicates_are_the_same_bytes_and_late_ones_are_overtaken(world, notifier, receiver):
    notices = [compose(world, world.create("gu1", "kyc-validation")) for _ in range(2)]

    copies = notifier.scatter(notices[0], random.Random(1), duplicate=1, reorder=0, spread=0.05)
    notifier.submit(notices[1], delay=0.3)
    notifier.submit(notices[1], delay=0.15, duplicate=True)

    assert notifier.drain(10)
    assert copies == 2
    assert [body for _, _, body in receiver.received] == [notices[0].body] * 2 + [notices[1].body] * 2
    assert [receipt.duplicate for receipt in notifier.receipts()][2:] == [True, False]


def test_requests_built_by_hand_can_be_posted(world, notifier, receiver):
    request = sign(CREDENTIALS, compose(world, world.create("yoti", "session")), source="other")

    assert isinstance(notifier.post(request), httpx.Response)
    assert receiver.received[0][0] == "/webhooks/other"
    assert notifier.receipts() == []


def test_closing_gives_up_what_is_queued(world, receiver):
    with Notifier(receiver.url, CREDENTIALS) as notifier:
        notifier.submit(compose(world, world.create("gu1", "kyc-validation")), delay=60)

    assert receiver.received == []


@pytest.mark.parametrize("story", list(STORIES), ids=lambda story: story.__name__)
def test_stories_are_as_long_as_they_say_and_are_repeatable(story):
    told = [list(story(World(1), random.Random(seed))) for seed in range(20)]

    assert {len(notices) for notices in told} == {STORIES[story]}
    assert [n.ref for n in told[0]] == [n.ref for n in story(World(1), random.Random(0))]


def test_traffic_sends_as_many_as_planned_and_whole_stories(world, notifier, receiver):
    sent: list[str] = []

    traffic = run_traffic(world, notifier, Plan(60, seed=4), on_sent=lambda notice: sent.append(notice.event))

    assert traffic.drained
    assert len(traffic.notices) == len(sent) == len(receiver.received) == 60
    assert {notice.ref.provider for notice in traffic.notices} == {"persona", "verifik", "gu1", "yoti"}
    open_inquiries = [
        one for one in world.find("persona", "inquiry") if one.status in ("created", "pending", "completed")
    ]
    assert open_inquiries == []
    assert len(notifier.acknowledged()) == 60


def test_traffic_is_repeatable_by_seed(receiver):
    def events():
        with Notifier(receiver.url, CREDENTIALS) as notifier:
            traffic = run_traffic(World(9), notifier, Plan(40, seed=9))
            return [(notice.ref, notice.event) for notice in traffic.notices]

    assert events() == events()


def test_traffic_doubles_and_keeps_its_pace(world, notifier, receiver):
    traffic = run_traffic(world, notifier, Plan(20, rate=100, duplicate=1, reorder=0.5))

    assert traffic.copies == len(receiver.received) == 40
    assert traffic.seconds >= 0.2
    assert sum(receipt.duplicate for receipt in notifier.receipts()) == 20
