"""`/api/v1/events?wait=`: answered as soon as there is something, and nobody is held up meanwhile."""

import gzip
import json
import socket
import threading
import time

import pytest

from tests.support.raw_http import RunningServer, Served, read_until
from tests.support.results import KIND, SOURCE, TOKEN, key, number_events, store
from web import waits
from web.api import polling
from web.api.problems import Problem
from web.app import create_app
from web.serving import body_limit
from worker.domain.scopes import Scope
from worker.pipeline import api_tokens
from worker.pipeline.api_tokens import Order
from worker.store.tables import events

pytestmark = pytest.mark.flow

LONG = 30


class Api(Served):
    def __init__(self, flask):
        self.flask = flask


@pytest.fixture
def server(runtime):
    api = Api(create_app(runtime))
    with RunningServer(api, body_limit(runtime.settings), threads=4) as running:
        yield running


class Client:
    """A connection that asks, and may be asked what came."""

    def __init__(self, server, query, *headers, method="GET", token=TOKEN):
        self.sock = server.connect()
        self.sock.settimeout(20)
        lines = [f"{method} /api/v1/events?{query} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *headers]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def answer(self):
        head = read_until(self.sock, b"\r\n\r\n")
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += self.sock.recv(65536)
        self.head = head.decode()
        return body

    def page(self):
        body = self.answer()
        return json.loads(gzip.decompress(body) if "Content-Encoding: gzip" in self.head else body)

    def close(self):
        self.sock.close()


@pytest.fixture
def ask(server):
    """Sends requests, and hangs up on all of them at the end."""
    clients = []

    def send(query, *headers, **how):
        clients.append(Client(server, query, *headers, **how))
        return clients[-1]

    yield send
    for client in clients:
        client.close()


def waiting(server):
    return len(server.server._waits._begun)


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def happen(database, *names, kind=KIND, source=SOURCE):
    for name in names:
        store(database, key(name, kind, source))
    number_events(database)


def sequences(page):
    return [item["sequence"] for item in page["items"]]


def test_what_is_there_is_not_waited_for(server, ask, database):
    happen(database, "ver_1")

    assert sequences(ask(f"after=1&wait={LONG}").page()) == [2]
    assert waiting(server) == 0


def test_who_waits_is_answered_when_something_happens(server, ask, database):
    clients = [ask(f"after=0&wait={LONG}") for _ in range(15)]
    ahead = ask(f"after=2&wait={LONG}")
    until(lambda: waiting(server) == 16)

    happen(database, "ver_1")

    assert [sequences(client.page()) for client in clients] == [[1, 2]] * 15
    until(lambda: waiting(server) == 1)
    happen(database, "ver_2")
    assert ahead.page()["next_after"] == 4
    assert "Cache-Control: no-store" in ahead.head


def test_a_wait_ends_with_an_empty_page(server, ask):
    began = time.monotonic()

    assert ask("after=7&wait=1").page() == {"items": [], "next_after": 7}
    assert 0.9 < time.monotonic() - began < 10


def test_only_what_is_wanted_ends_a_wait(server, ask, database):
    happen(database, "ver_1")
    one = ask(f"after=2&wait={LONG}&source=gu1-test")
    two = ask(f"after=0&wait={LONG}&kind=face-match&type=verification.result.decided")
    until(lambda: waiting(server) == 2)

    happen(database, "ver_2")
    time.sleep(3 * polling.LOOK_SECONDS)
    assert waiting(server) == 2
    happen(database, "fm_1", kind="face-match", source="gu1-test")

    assert sequences(one.page()) == [5, 6]
    assert sequences(two.page()) == [6]


def test_a_long_answer_to_who_waited_is_compressed(server, ask, database):
    client = ask(f"after=0&wait={LONG}", "Accept-Encoding: gzip")
    until(lambda: waiting(server) == 1)

    happen(database, *(f"ver_{number}" for number in range(3)))

    assert len(client.page()["items"]) == 6
    assert "Content-Encoding: gzip" in client.head
    assert client.head.count("\nContent-Type:") == client.head.count("\nContent-Encoding:") == 1


def test_hundreds_who_wait_hold_up_nobody(server, ask, database, monkeypatch):
    """More than there are threads, by far: webhooks and other questions are answered meanwhile."""
    monkeypatch.setattr(waits, "MOST_OF_ONE", waits.MOST_WAITS)
    clients = [ask(f"after=0&wait={LONG}") for _ in range(waits.MOST_WAITS)]
    until(lambda: waiting(server) == waits.MOST_WAITS)
    began = time.monotonic()

    webhook = server.exchange(
        b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    one_more = ask(f"after=0&wait={LONG}").page()

    assert webhook.startswith(b"HTTP/1.1 404")
    assert one_more == {"items": [], "next_after": 0}
    assert time.monotonic() - began < 10
    assert [thread.name for thread in threading.enumerate() if thread.name == "polls"] == ["polls"]
    happen(database, "ver_1")
    assert all(sequences(client.page()) == [1, 2] for client in clients)
    until(lambda: "polls" not in {thread.name for thread in threading.enumerate()})


def test_one_token_leaves_places_for_others(server, ask, runtime, database):
    with runtime.database.write() as session:
        other = api_tokens.create(session, Order("other", frozenset({Scope.RESULTS_READ}), "cli:ada"))
    clients = [ask(f"after=0&wait={LONG}") for _ in range(waits.MOST_OF_ONE)]
    until(lambda: waiting(server) == waits.MOST_OF_ONE)

    assert ask(f"after=0&wait={LONG}").page() == {"items": [], "next_after": 0}
    clients.append(ask(f"after=0&wait={LONG}", token=other))
    until(lambda: waiting(server) == waits.MOST_OF_ONE + 1)
    clients.pop(0).close()
    until(lambda: waiting(server) == waits.MOST_OF_ONE)
    clients.append(ask(f"after=0&wait={LONG}"))
    until(lambda: waiting(server) == waits.MOST_OF_ONE + 1)

    happen(database, "ver_1")
    assert all(sequences(client.page()) == [1, 2] for client in clients)
    until(lambda: not server.server._waits._taken)


@pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
def test_who_went_away_frees_the_place(server, ask, how):
    client = ask(f"after=0&wait={LONG}")
    until(lambda: waiting(server) == 1)
    if how == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    if how == "shutdown":
        client.sock.shutdown(socket.SHUT_WR)
        assert client.page() == {"items": [], "next_after": 0}
    else:
        client.close()

    until(lambda: waiting(server) == 0)


def test_a_server_that_stops_ends_every_wait(server, ask):
    clients = [ask(f"after=0&wait={LONG}") for _ in range(3)]
    until(lambda: waiting(server) == 3)

    server.server.stop()

    assert [client.page() for client in clients] == [{"items": [], "next_after": 0}] * 3
    server.join()


def test_a_database_that_is_away_meanwhile_is_waited_for(server, ask, database, monkeypatch):
    monkeypatch.setattr(polling, "read_news", lambda *_, **__: 1 / 0)
    client = ask(f"after=0&wait={LONG}")
    until(lambda: waiting(server) == 1)
    happen(database, "ver_1")
    time.sleep(3 * polling.LOOK_SECONDS)
    assert waiting(server) == 1

    monkeypatch.undo()

    assert sequences(client.page()) == [1, 2]


def test_an_event_that_only_a_newer_release_knows_is_told_all_the_same(server, ask, database):
    everything = ask(f"after=0&wait={LONG}")
    known = ask(f"after=0&wait={LONG}&type=verification.result.decided")
    until(lambda: waiting(server) == 2)

    store(database, key("ver_1"))
    with database.write() as session:
        created = events.c.type == "verification.result.created"
        session.execute(events.update().where(created).values(type="verification.result.future"))
    number_events(database)

    assert everything.page()["items"][0]["type"] == "verification.result.future"
    assert sequences(known.page()) == [2]


def test_what_fails_for_one_fails_for_nobody_else(server, ask, database, monkeypatch):
    answer = polling._Poll.answer
    monkeypatch.setattr(
        polling._Poll, "answer", lambda poll, page: answer(poll, page) if poll.asked.limit > 1 else 1 / 0
    )
    bad = ask(f"after=0&wait={LONG}&limit=1")
    until(lambda: waiting(server) == 1)
    good = ask(f"after=0&wait={LONG}")
    until(lambda: waiting(server) == 2)

    happen(database, "ver_1")

    assert sequences(good.page()) == [1, 2]
    monkeypatch.undo()
    assert sequences(bad.page()) == [1]


def test_without_a_thread_to_look_the_next_who_comes_begins_one(server, ask, database, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "polls":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        first = ask(f"after=0&wait={LONG}")
        until(lambda: waiting(server) == 1)
    second = ask(f"after=0&wait={LONG}")
    until(lambda: waiting(server) == 2)

    happen(database, "ver_1")

    assert [sequences(client.page()) for client in (first, second)] == [[1, 2]] * 2


def test_heads_do_not_wait(server, ask):
    client = ask(f"after=0&wait={LONG}", method="HEAD")

    assert read_until(client.sock, b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_another_server_lets_a_few_wait_with_a_thread(api, database):
    pages = []
    threads = [
        threading.Thread(target=lambda: pages.append(api.application.test_client().get(
            f"/api/v1/events?wait={LONG}", headers={"Authorization": f"Bearer {TOKEN}"}).get_json()))
        for _ in range(polling.MOST_HELD + 1)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    until(lambda: len(pages) == 1)

    happen(database, "ver_1")
    for thread in threads:
        thread.join(20)

    assert sorted(len(page["items"]) for page in pages) == [0] + [2] * polling.MOST_HELD


@pytest.mark.parametrize(("path", "kind"), [("/api/v1/retrievals", "problem+json"), ("/webhooks/x", "json")])
def test_what_the_server_refuses_has_the_form_of_whom_it_was_for(server, path, kind):
    request = f"POST {path}?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"

    head, _, body = server.exchange(request.encode()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 413 ")
    assert f"\r\nContent-Type: application/{kind}\r\n".encode() in head
    if kind == "problem+json":
        found = Problem.model_validate_json(body, strict=True)
        assert (found.status, found.instance, found.title) == (413, path, "Request Entity Too Large")
