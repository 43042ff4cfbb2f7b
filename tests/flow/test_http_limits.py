"""What the HTTP server must survive: bodies cut short or too long, slow clients, ambiguous requests, and its own end.

Raw sockets against a running server, because no HTTP client would send most of this.
"""

import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from flask import Flask, Response, jsonify, request
from structlog.testing import capture_logs

from tests.support.processes import eventually
from tests.support.raw_http import RunningServer, Served, documents, read_all, read_until, statuses
from web import http_protocol, http_server

pytestmark = pytest.mark.flow

LIMITS = {"/webhooks/small": 1_000, "/webhooks/large": 200_000}
POST = b"POST /webhooks/small HTTP/1.1\r\nHost: test\r\n"
CLOSE = b"Connection: close\r\n"
HEALTHY = POST + CLOSE + b"Content-Length: 2\r\n\r\n{}"
LONGEST_BODY = b"x" * LIMITS["/webhooks/small"]
SLOW_CLIENTS = 50
SHORT_REQUEST_SECONDS = 1


class Application(Served):
    """A Flask application that remembers the bodies it was given."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.flask = Flask("limits")
        self.flask.add_url_rule("/webhooks/<source>", view_func=self.receive, methods=["POST"])
        self.flask.add_url_rule("/gated", view_func=self.gated)

    def receive(self, source: str) -> Response:
        body = request.get_data()
        self.bodies.append(body)
        return jsonify(length=len(body), announced=request.content_length, mark=request.headers.get("X-Mark"))

    def gated(self) -> Response:
        self.entered.set()
        self.gate.wait(10)
        return jsonify(source="gate")

    def release(self) -> None:
        self.gate.set()


class Running(RunningServer[Application]):
    """A server with these limits."""

    def __init__(self, app: Application, listener: socket.socket | None = None) -> None:
        super().__init__(app, lambda path: LIMITS.get(path, 0), listener)

    def assert_healthy(self) -> None:
        assert statuses(self.exchange(HEALTHY)) == [200]


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with Running(Application()) as running:
        yield running


@pytest.fixture
def running(shared: Running) -> Running:
    """One server for all tests, which is part of the point: nothing that one of them sends may spoil it."""
    shared.app.bodies.clear()
    return shared


def with_length(body: bytes, path: bytes = b"/webhooks/small") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
    return head + body


def chunked(body: bytes, path: bytes = b"/webhooks/small", size: int = 300) -> bytes:
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + framed + b"0\r\n\r\n"


# Too long.


def test_each_path_has_its_own_limit(running: Running) -> None:
    assert statuses(running.exchange(with_length(LONGEST_BODY))) == [200]
    assert statuses(running.exchange(with_length(LONGEST_BODY + b"x"))) == [413]
    assert statuses(running.exchange(with_length(LONGEST_BODY + b"x", b"/webhooks/large"))) == [200]
    assert statuses(running.exchange(with_length(b"x" * 200_001, b"/webhooks/large"))) == [413]
    assert [len(body) for body in running.app.bodies] == [1_000, 1_001]


def test_a_long_body_is_refused_from_its_headers(running: Running) -> None:
    started = time.monotonic()
    with running.connect() as sock:
        sock.sendall(POST + b"Content-Length: 1001\r\n\r\n")
        assert statuses(read_until(sock, rb"\r\n\r\n")) == [413]
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("length", [3_000_000, 20_000_000])
def test_the_refusal_reaches_a_client_that_sends_everything_first(running: Running, length: int) -> None:
    assert statuses(running.exchange(with_length(b"x" * length))) == [413]
    assert running.app.bodies == []


def test_a_chunked_body_arrives_with_its_length(running: Running) -> None:
    assert documents(running.exchange(chunked(b"x" * 700))) == [{"length": 700, "announced": 700, "mark": None}]


@pytest.mark.parametrize("size", [300, 60_000])
def test_a_chunked_body_over_the_limit_is_refused_before_its_end(running: Running, size: int) -> None:
    longest = LIMITS["/webhooks/small"] + http_protocol.FRAMING_ALLOWANCE
    endless = chunked(b"x" * longest * 2, size=size)[: -len(b"0\r\n\r\n")]
    assert statuses(running.exchange(endless)) == [413]
    assert running.app.bodies == []


# Too short.


@pytest.mark.parametrize(
    "cut",
    [
        POST + b"Content-Length: 50\r\n\r\nhello",
        POST + b"Content-Length: 50\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        POST,
    ],
)
def test_a_cut_request_never_passes_for_a_whole_one(running: Running, cut: bytes) -> None:
    assert [status for status in statuses(running.exchange(cut, end=True)) if status < 400] == []
    assert running.app.bodies == []
    running.assert_healthy()


# Too slow.


SLOW_BEGINNINGS = {
    "headers": b"POST /webhooks/small HTTP/1.1\r\nX-Slow: ",
    "bodies": POST + b"Content-Length: 900\r\n\r\n",
    "chunk extensions": POST + b"Transfer-Encoding: chunked\r\n\r\n3;",
    "silent": b"",
}


def test_slow_clients_stop_nobody_and_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", SHORT_REQUEST_SECONDS)
    with Running(Application()) as running, ExitStack() as stack:
        began = time.monotonic()
        slow: dict[str, list[socket.socket]] = {
            name: [stack.enter_context(running.connect()) for _ in range(SLOW_CLIENTS)] for name in SLOW_BEGINNINGS
        }
        for name, beginning in SLOW_BEGINNINGS.items():
            for sock in slow[name]:
                sock.sendall(beginning)
        times = []
        while time.monotonic() - began < SHORT_REQUEST_SECONDS:
            started = time.monotonic()
            running.assert_healthy()
            times.append(time.monotonic() - started)
            drip(slow["headers"] + slow["bodies"] + slow["chunk extensions"])
        assert statistics.median(times) < 0.1
        assert max(times) < 1
        for name, sockets in slow.items():
            assert [raw for sock in sockets if b" 200 " in (raw := read_all(sock))] == [], name
        assert time.monotonic() - began < SHORT_REQUEST_SECONDS + 5
        assert len(running.app.bodies) == len(times)


def test_a_kept_connection_outlives_the_time_for_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's pooled connection is idle for up to a minute; closing it sooner loses what the proxy sends next."""
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", SHORT_REQUEST_SECONDS)
    with Running(Application()) as running, running.connect() as kept, running.connect() as silent:
        kept.sendall(HEALTHY.replace(CLOSE, b""))
        assert statuses(kept.recv(65536)) == [200]

        assert read_all(silent) == b"", "one that never said anything is closed meanwhile"

        kept.sendall(HEALTHY)
        assert statuses(read_all(kept)) == [200]


def drip(slow: list[socket.socket]) -> None:
    """A byte now and then: mere activity must not keep a connection open."""
    for sock in slow:
        with suppress(OSError):
            sock.send(b"x")


def test_a_long_body_that_keeps_coming_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(http_protocol, "SLOWEST_BYTES_PER_SECOND", 20_000)
    body = with_length(b"x" * 150_000, b"/webhooks/large")
    began = time.monotonic()
    with Running(Application()) as running, running.connect() as sock:
        for start in range(0, len(body), 4_000):
            # The pace of an honest sender on a bad line, which is what is tested here.
            threading.Event().wait(max(0.0, began + start / 50_000 - time.monotonic()))
            sock.sendall(body[start : start + 4_000])
        assert statuses(read_all(sock)) == [200]
    assert time.monotonic() - began > 2


# Ambiguous or odd.


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
        (POST + b"Content-Length: +3\r\n\r\nabc", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400),
        (POST + b"Content-Length : 3\r\n\r\nabc", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"X-Mark: a\0b\r\n\r\n", 400),
        (POST + b"X-Mark: a\nb: c\r\n\r\n", 400),
        (POST + b"X-Mark: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (POST + b"X: y\r\n" * 9_000, 431),
        (b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST http://[broken HTTP/1.1\r\nHost: test\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_could_be_misread_is_refused_and_ends_the_connection(running: Running, raw: bytes, status: int) -> None:
    answer = running.exchange(raw + b"GET /gated HTTP/1.1\r\nHost: test\r\n\r\n")

    assert re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer) == [b"%d" % status]
    assert running.app.bodies == []
    running.assert_healthy()


def test_underscores_do_not_pass_for_dashes(running: Running) -> None:
    [document] = documents(running.exchange(HEALTHY.replace(b"Connection", b"X_Mark: forged\r\nConnection")))
    assert document["mark"] is None


def test_a_client_that_expects_to_be_encouraged_is(running: Running) -> None:
    expecting = POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with running.connect() as sock:
        sock.sendall(expecting)
        assert statuses(read_until(sock, rb"\r\n\r\n")) == [100]
        sock.sendall(b"{}")
        assert statuses(read_all(sock)) == [200]


def test_a_client_that_asks_first_is_not_told_to_send_too_much(running: Running) -> None:
    asking = POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
    assert statuses(running.exchange(asking)) == [413]


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    requests = [POST + b"X-Mark: %d\r\nContent-Length: 2\r\n\r\n{}" % number for number in range(30)]
    marks = [document["mark"] for document in documents(running.exchange(b"".join(requests), HEALTHY))]
    assert marks == [*map(str, range(30)), None]


def test_a_request_may_come_byte_by_byte(running: Running) -> None:
    assert statuses(running.exchange(*(HEALTHY[i : i + 1] for i in range(len(HEALTHY))))) == [200]


def test_a_whole_url_as_target_has_the_limit_of_its_path(running: Running) -> None:
    whole = HEALTHY.replace(b"/webhooks", b"http://test/webhooks")
    assert statuses(running.exchange(whole)) == [200]
    assert statuses(running.exchange(whole.replace(b"Length: 2", b"Length: 2000"))) == [413]


def test_clients_that_are_gone_harm_nobody(running: Running) -> None:
    for _ in range(20):
        with running.connect() as sock:
            sock.sendall(HEALTHY)
            # Closing with a linger of zero resets the connection while the answer is on its way.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    running.assert_healthy()


def test_a_failure_of_the_application_tells_nothing(monkeypatch: pytest.MonkeyPatch, running: Running) -> None:
    def broken(*_: object) -> list[bytes]:
        raise RuntimeError("inner")

    monkeypatch.setattr(running.app.flask, "wsgi_app", broken)
    with capture_logs() as said:
        answer = running.exchange(b"GET /secret-token HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert statuses(answer) == [500]
    assert b"inner" not in answer
    # The path of a webhook may be its secret.
    assert [line["event"] for line in said] == ["application_failed"]
    assert "RuntimeError" in said[0]["error"]
    assert "secret-token" not in str(said)


def test_a_refused_client_that_does_not_wait_for_the_answer_harms_nobody(
    caplog: pytest.LogCaptureFixture, running: Running
) -> None:
    for _ in range(20):
        with running.connect() as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    running.assert_healthy()
    assert "Traceback" not in caplog.text


# Its own end, and others beside it.


def test_stopping_lets_the_request_in_flight_finish() -> None:
    with Running(Application()) as running, running.connect() as idle, running.connect() as gated:
        gated.sendall(b"GET /gated HTTP/1.1\r\nHost: test\r\n\r\n")
        assert running.app.entered.wait(5)
        running.server.stop()
        running.app.gate.set()
        assert statuses(read_all(gated)) == [200]
        assert read_all(idle) == b""
        running.join()
        with pytest.raises(ConnectionRefusedError):
            running.connect()


def test_stopping_waits_no_longer_than_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "GRACE_SECONDS", 0.3)
    with Running(Application()) as running, running.connect() as gated:
        gated.sendall(b"GET /gated HTTP/1.1\r\nHost: test\r\n\r\n")
        assert running.app.entered.wait(5)
        started = time.monotonic()
        running.server.stop()
        running.join()
        assert time.monotonic() - started < 5
        assert read_all(gated) == b""


def test_two_servers_share_one_listener_and_one_may_leave() -> None:
    first_listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    second_listener = first_listener.dup()
    with Running(Application(), second_listener) as second:
        with Running(Application(), first_listener) as first:
            eventually(lambda: both_were_asked(first, second), "both take connections", 20)
        for _ in range(10):
            second.assert_healthy()


def both_were_asked(first: Running, second: Running) -> bool:
    """Many at once: alone, whichever is awake would take each."""
    clients = [threading.Thread(target=first.assert_healthy) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return bool(first.app.bodies and second.app.bodies)
