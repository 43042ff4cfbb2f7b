"""Requests in greenlets: each sees only its own, and waiting for a commit holds up nobody else."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

import pytest
import structlog
from flask import Flask, Response, g, jsonify, request
from greenlet import getcurrent

from tests.support.raw_http import RunningServer, Served, documents, statuses
from worker.errors import NotCommitted
from worker.greenlets import Greenlets, Hub, Pool
from worker.pipeline.group_commit import LARGEST_GROUP, GroupCommit
from worker.waiting import THREADS, Event

pytestmark = pytest.mark.flow

WAIT = 10.0
WAITER = Greenlets()


class Away(Exception):
    """The database is away."""


class Loop:
    """A loop in a thread of its own, with a hub in which greenlets are started."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = Pool("test", 4)
        self.hub: Hub
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(WAIT)

    def _run(self) -> None:
        self.hub = Hub(self.loop, self.pool)
        self.loop.call_soon(self._ready.set)
        self.loop.run_forever()
        self.loop.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.pool.stop()

    def call(self, function: Callable[[], object]) -> "Future[object]":
        """What `function` returns or raises, in a greenlet."""
        future: Future[object] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - the test looks at it
                future.set_exception(error)

        self.hub.call(lambda: self.hub.spawn(run))
        return future


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def on_event(made: "list[Event]", wait: float) -> Callable[[], object]:
    def run() -> object:
        event = WAITER.event()
        made.append(event)
        return event.wait(wait), event.is_set()

    return run


# Waiting.


class Body:
    """Something that a request holds."""


def test_a_greenlet_serves_one_request_after_the_other_and_keeps_nothing_of_them(loop: Loop) -> None:
    def use(_body: Body | None) -> object:
        return id(getcurrent())

    body = Body()
    held = weakref.ref(body)
    first = loop.call(partial(use, body)).result(WAIT)
    del body

    assert loop.call(partial(use, None)).result(WAIT) == first
    assert held() is None


def test_an_event_wakes_its_greenlet_from_any_thread(loop: Loop) -> None:
    made: list[Event] = []
    waiting = [loop.call(on_event(made, WAIT)) for _ in range(50)]
    while len(made) < 50:
        time.sleep(0.001)
    for event in made[:25]:
        event.set()
    for event in made[25:]:
        loop.call(event.set)
    assert [future.result(WAIT) for future in waiting] == [(True, True)] * 50


def test_an_event_that_happened_is_not_waited_for(loop: Loop) -> None:
    def run() -> object:
        event = WAITER.event()
        event.set()
        return event.wait(WAIT), event.wait(0)

    assert loop.call(run).result(WAIT) == (True, True)


def test_an_event_that_does_not_happen_is_given_up_and_may_happen_later(loop: Loop) -> None:
    made: list[Event] = []
    assert loop.call(on_event(made, 0.02)).result(WAIT) == (False, False)
    made[0].set()
    assert loop.call(made[0].is_set).result(WAIT) is True


def test_what_runs_aside_holds_up_nobody_and_comes_back(loop: Loop) -> None:
    gate = threading.Event()
    names: list[str] = []

    def aside() -> str:
        assert gate.wait(WAIT)
        names.append(threading.current_thread().name)
        return "done"

    slow = loop.call(lambda: WAITER.aside(aside))
    assert loop.call(lambda: "meanwhile").result(WAIT) == "meanwhile"
    gate.set()
    assert slow.result(WAIT) == "done"
    assert names[0].startswith("test-")


def test_what_is_raised_aside_is_raised_where_it_was_asked_for(loop: Loop) -> None:
    def broken() -> None:
        raise Away("aside")

    with pytest.raises(Away, match="aside"):
        loop.call(lambda: WAITER.aside(broken)).result(WAIT)


def test_a_thread_waits_as_threads_do() -> None:
    event = WAITER.event()
    assert isinstance(event, threading.Event)
    assert WAITER.aside(threading.get_ident) == THREADS.aside(threading.get_ident) == threading.get_ident()


def test_a_pool_has_as_many_threads_as_it_needs() -> None:
    pool, gate, done = Pool("many", 3), threading.Event(), threading.Semaphore(0)

    def job() -> None:
        gate.wait(WAIT)
        done.release()

    for _ in range(9):
        pool.submit(job)
    assert sum(thread.name.startswith("many-") for thread in threading.enumerate()) == 3
    gate.set()
    assert all(done.acquire(timeout=WAIT) for _ in range(9))
    pool.stop()


# Group commit.


class Store:
    """Doubles numbers in groups, each group once the gate is open; negative numbers are poison."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = threading.Event()
        self.commits: GroupCommit[int, int] = GroupCommit(self.commit, passing=(Away,), waiter=WAITER)

    def commit(self, items):
        assert threading.current_thread().name.startswith("test-"), "the loop must not commit"
        self.groups.append(list(items))
        assert self.gate.wait(WAIT)
        if any(item < 0 for item in items):
            raise ValueError("poison")
        return [item * 2 for item in items]

    def submit(self, item: int, wait: float = WAIT) -> Callable[[], object]:
        return lambda: self.commits.submit(item, wait)


def test_greenlets_share_commits(loop: Loop) -> None:
    store = Store()
    futures = [loop.call(store.submit(number)) for number in range(1, 101)]
    loop.call(lambda: None).result(WAIT)
    store.gate.set()
    assert [future.result(WAIT) for future in futures] == [number * 2 for number in range(1, 101)]
    assert [len(group) for group in store.groups] == [1, LARGEST_GROUP, 99 - LARGEST_GROUP]


def test_a_poisoned_item_of_a_greenlet_fails_alone(loop: Loop) -> None:
    store = Store()
    futures = [loop.call(store.submit(number)) for number in (1, 2, -3, 4)]
    loop.call(lambda: None).result(WAIT)
    store.gate.set()
    assert [futures[place].result(WAIT) for place in (0, 1, 3)] == [2, 4, 8]
    assert isinstance(futures[2].exception(WAIT), ValueError)


def test_a_greenlet_whose_group_does_not_come_is_told_in_time(loop: Loop) -> None:
    store = Store()
    first, second = loop.call(store.submit(1)), loop.call(store.submit(2, 0.05))
    with pytest.raises(NotCommitted):
        second.result(WAIT)
    store.gate.set()
    assert first.result(WAIT) == 2
    assert loop.call(store.submit(3)).result(WAIT) == 6
    assert store.groups == [[1], [3]]


def test_threads_and_greenlets_share_commits(loop: Loop) -> None:
    store = Store()
    leading = loop.call(store.submit(1))
    while not store.groups:
        time.sleep(0.001)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(store.commits.submit(2, WAIT)), name="test-thread")
    thread.start()
    while not store.commits._waiting:
        time.sleep(0.001)
    following = loop.call(store.submit(3))
    store.gate.set()
    thread.join(WAIT)
    assert (leading.result(WAIT), answers, following.result(WAIT)) == (2, [4], 6)
    assert store.groups[0] == [1]
    assert sorted(item for group in store.groups[1:] for item in group) == [2, 3]


# Each request sees its own.


class Gathering(Served):
    """Requests that wait until all of them are there, and then say what they see."""

    def __init__(self, guests: int) -> None:
        self.guests = guests
        self.inside: list[Event] = []
        self.threads: set[int] = set()
        self.flask = Flask("gathering")
        self.flask.add_url_rule("/webhooks/<name>", view_func=self.enter, methods=["POST"])
        self.flask.teardown_request(lambda _error: structlog.contextvars.clear_contextvars())

    def enter(self, name: str) -> Response:
        assert not structlog.contextvars.get_contextvars(), "something of another request is left"
        g.name = name
        structlog.contextvars.bind_contextvars(name=name)
        self.threads.add(threading.get_ident())
        event = WAITER.event()
        self.inside.append(event)
        if len(self.inside) == self.guests:
            self.release()
        assert event.wait(WAIT)
        WAITER.aside(lambda: None)
        bound = structlog.contextvars.get_contextvars()["name"]
        assert request.view_args is not None
        return jsonify(
            seen=[g.name, bound, request.view_args["name"], request.headers["X-Name"], request.data.decode()]
        )

    def release(self) -> None:
        for event in self.inside:
            event.set()


def test_requests_that_overlap_see_nothing_of_each_other() -> None:
    guests = 60
    app = Gathering(guests)
    with RunningServer(app, lambda _path: 1_000) as running:
        answers: list[bytes] = []

        def enter(name: str) -> None:
            head = f"POST /webhooks/{name} HTTP/1.1\r\nHost: x\r\nX-Name: {name}\r\nConnection: close\r\n"
            answers.append(running.exchange(f"{head}Content-Length: {len(name)}\r\n\r\n{name}".encode()))

        clients = [threading.Thread(target=enter, args=(f"guest-{number}",)) for number in range(guests)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(WAIT)
    assert [statuses(raw) for raw in answers] == [[200]] * guests
    seen = [document["seen"] for raw in answers for document in documents(raw)]
    assert sorted(map(str, seen)) == sorted(str([f"guest-{number}"] * 5) for number in range(guests))
    assert len(app.threads) == 1, "they were in one thread, or nothing was shown"
