"""The server under more than it can take, and beside what is no webhook."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask, Response, jsonify, request
from structlog.testing import capture_logs

from tests.support.raw_http import RunningServer, Served, documents, read_all, read_until, statuses
from web import http_protocol, http_server, load
from web.load import ALWAYS, Load
from worker.greenlets import Greenlets
from worker.waiting import Event

pytestmark = pytest.mark.flow

WAITER = Greenlets()
WEBHOOK = b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
BIG = 4_000_000


class Application(Served):
    """Webhooks that wait while `held`, and other paths."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[Event] = []
        self.bigs = 0
        self.flask = Flask("server")
        self.flask.add_url_rule("/webhooks/<name>", view_func=self.webhook, methods=["POST"])
        self.flask.add_url_rule("/api", view_func=lambda: jsonify(thread=threading.current_thread().name))
        self.flask.add_url_rule("/big", view_func=self.big)
        self.flask.add_url_rule("/injected", view_func=self.injected)

    def webhook(self, name: str) -> Response:
        if self.held:
            event = WAITER.event()
            self.waiting.append(event)
            event.wait(10)
        return jsonify(thread=threading.current_thread().name, length=len(request.get_data()))

    def big(self) -> Response:
        self.bigs += 1
        return Response(b"x" * BIG)

    def injected(self) -> Response:
        answer = Response(b"")
        answer.headers._list.append(("X-Echo", "a\r\nSet-Cookie: b"))
        return answer

    def release(self) -> None:
        self.held = False
        for event in self.waiting:
            event.set()


@pytest.fixture
def running() -> Iterator[RunningServer[Application]]:
    with RunningServer(Application(), lambda _path: 1_000_000) as server:
        yield server


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % path, b"Host: x", *headers, b"", b""])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_webhooks_that_come_together_on_one_connection_are_all_answered(
    running: RunningServer[Application], count: int
) -> None:
    """The next is begun by the one before, while the loop is elsewhere; and afterwards the connection goes on."""
    application = running.app
    application.held = True
    with running.connect() as connection:
        connection.sendall(WEBHOOK * count)
        for number in range(count):
            until(lambda number=number: len(application.waiting) > number)
            application.waiting[number].set()
            assert statuses(read_until(connection, b"}\n")) == [200]
        application.held = False
        connection.sendall(WEBHOOK)
        assert statuses(read_until(connection, b"}\n")) == [200]


def test_an_answer_to_head_has_no_body_even_from_the_server_itself(
    running: RunningServer[Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running.connect() as connection:
        connection.sendall(get(b"/api"))
        read_until(connection, b"}\n")
        monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 0)
        connection.sendall(b"HEAD /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After" in head
    assert body == b""


def test_webhooks_stay_in_the_loop_and_all_else_and_long_bodies_do_not(running: RunningServer[Application]) -> None:
    close = b"Connection: close\r\nContent-Length"
    long = (
        b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
    )
    [webhook] = documents(running.exchange(WEBHOOK.replace(b"Content-Length", close)))
    [long_one] = documents(running.exchange(long))
    [other] = documents(running.exchange(get(b"/api", b"Connection: close")))
    assert str(other["thread"]).startswith("request-")
    assert str(long_one["thread"]).startswith("request-")
    assert long_one["length"] == 200_000
    assert not str(webhook["thread"]).startswith(("request-", "aside-"))


def test_more_than_can_be_answered_is_told_to_come_again_at_once(
    running: RunningServer[Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "LONGEST_STALL", 0.2)
    app = running.app
    app.held = True
    held = [running.connect() for _ in range(ALWAYS)]
    for sock in held:
        sock.sendall(WEBHOOK)
    until(lambda: len(app.waiting) == ALWAYS)
    time.sleep(0.25)
    with running.connect() as more:
        began = time.monotonic()
        for _ in range(3):
            more.sendall(WEBHOOK)
            answer = read_until(more, rb"\r\n\r\n\{[^}]*\}")
            assert statuses(answer) == [503]
            assert b"Retry-After: 5\r\n" in answer
        assert time.monotonic() - began < 1
        more.sendall(get(b"/api"))
        assert statuses(read_until(more, rb"\}")) == [200]
        app.release()
        for sock in held:
            assert statuses(read_until(sock, rb"\}")) == [200]
            sock.close()
        more.sendall(WEBHOOK)
        assert statuses(read_until(more, rb"\}")) == [200]


def test_a_few_are_taken_whatever_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(load, "monotonic", lambda: now[0])
    measured = Load()
    for _ in range(ALWAYS):
        assert not measured.is_too_much()
        measured.begin()
    for _ in range(200):
        now[0] += 0.1
        measured.end()
        measured.begin()
    assert measured.is_too_much(), "sixty-four at a tenth of a second each are six seconds"
    for _ in range(400):
        now[0] += 0.001
        measured.end()
        measured.begin()
    assert not measured.is_too_much(), "and at a thousandth they are nothing"


def test_a_client_that_takes_no_answer_costs_one(
    running: RunningServer[Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "TAKING_SECONDS", 1.0)
    with running.connect() as sock:
        sock.sendall(get(b"/big") * 50)
        until(lambda: running.app.bigs >= 1)
        # It is given up, and what the kernel had taken of the answer is all that ever comes.
        time.sleep(2.5)
        assert running.app.bigs == 1
        assert len(read_all(sock)) < 2 * BIG
    assert statuses(running.exchange(get(b"/api", b"Connection: close"))) == [200]


def test_long_bodies_have_a_limit_together(
    running: RunningServer[Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MOST_LONG_BYTES", 1_000_000)
    head = b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n"
    with running.connect() as first:
        first.sendall(head + b"x" * 600_000)
        time.sleep(0.3)
        refused = running.exchange(head + b"x" * 900_000)
        assert statuses(refused) == [503]
        assert b"Retry-After" in refused
        first.sendall(b"x" * 300_000)
        assert statuses(read_all(first)) == [200]
    assert statuses(running.exchange(head + b"x" * 900_000)) == [200], "what was counted is given back"


def test_connections_beyond_the_limit_wait(
    running: RunningServer[Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 5)
    held = [running.connect() for _ in range(5)]
    for sock in held:
        sock.sendall(get(b"/api"))
        read_until(sock, rb"\}")
    with running.connect() as sixth:
        sixth.sendall(get(b"/api"))
        sixth.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sixth.recv(1)
        sixth.settimeout(10)
        held[0].close()
        assert statuses(read_until(sixth, rb"\}")) == [200]
    for sock in held:
        sock.close()


def test_an_answer_in_which_a_header_hides_is_not_sent(running: RunningServer[Application]) -> None:
    with capture_logs() as said:
        answer = running.exchange(get(b"/injected", b"Connection: close"))
    assert statuses(answer) == [500]
    assert b"Set-Cookie" not in answer
    assert [line["event"] for line in said] == ["application_failed"]


def test_head_has_the_length_and_no_body(running: RunningServer[Application]) -> None:
    answer = running.exchange(get(b"/big", b"Connection: close").replace(b"GET", b"HEAD"))
    assert b"Content-Length: %d\r\n" % BIG in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("kept", "answers"), [(b"keep-alive", 2), (b"close", 1)])
def test_version_1_0_is_kept_only_if_asked_for(running: RunningServer[Application], kept: bytes, answers: int) -> None:
    old = get(b"/api", b"Connection: " + kept).replace(b"1.1", b"1.0")
    said = running.exchange(old * 2, end=True)
    assert statuses(said) == [200] * answers
    assert said.count(b"Connection: keep-alive") == (answers if answers == 2 else 0)


def test_who_sends_and_shuts_its_side_is_answered(running: RunningServer[Application]) -> None:
    assert statuses(running.exchange(WEBHOOK, WEBHOOK, end=True)) == [200, 200]


def test_a_request_that_is_arriving_when_the_server_stops_is_answered() -> None:
    app = Application()
    with RunningServer(app, lambda _path: 1_000) as running, running.connect() as sock:
        sock.sendall(WEBHOOK[:-1])
        time.sleep(0.2)
        running.server.stop()
        time.sleep(0.2)
        sock.sendall(WEBHOOK[-1:])
        answer = read_all(sock)
        assert statuses(answer) == [200]
        assert b"Connection: close" in answer
        running.join()


def test_what_never_arrives_holds_up_a_stop_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "ARRIVING_SECONDS", 0.2)
    with RunningServer(Application(), lambda _path: 1_000) as running, running.connect() as sock:
        sock.sendall(WEBHOOK[:-1])
        time.sleep(0.1)
        began = time.monotonic()
        running.server.stop()
        running.join()
        assert time.monotonic() - began < 5
        assert read_all(sock) == b""


def test_a_server_that_is_stopped_before_it_runs_ends_at_once() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = http_server.serve(Application().flask, listener=listener, threads=1, body_limit=lambda _path: 0)
    server.stop()
    thread = threading.Thread(target=server.run)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
