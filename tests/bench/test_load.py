"""The load generator against a server that answers whatever the test wants."""

import re
import socketserver
import threading
import time
from contextlib import contextmanager

import pytest

from bench.load import Load, Plan, drive, examine
from bench.protocol import Broken

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
LATER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
NEVER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Server(socketserver.ThreadingTCPServer):
    """Answers with what `answer` makes of the number of a request; None closes without an answer."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.bodies = []
        self.lock = threading.Lock()

    @property
    def port(self):
        return self.server_address[1]


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                data, more = self.read(data)
                if not more:
                    return
            head, _, data = data.partition(b"\r\n\r\n")
            found = re.search(rb"Content-Length: (\d+)", head)
            assert found
            length = int(found.group(1))
            while len(data) < length:
                data, _ = self.read(data)
            body, data = data[:length], data[length:]
            with self.server.lock:
                self.server.bodies.append(body)
                number = len(self.server.bodies)
            answer = self.server.answer(number)
            if answer is None:
                return
            self.request.sendall(answer)
            if b"Connection: close" in answer:
                return

    def read(self, data):
        more = self.request.recv(65_536)
        return data + more, more


@contextmanager
def serving(answer):
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def plan(server, count=200, **changes):
    return Plan(server.port, "secret", count, **{"seconds": 20.0, "connections": 8, **changes})


def test_each_webhook_is_sent_once_and_its_answer_counted():
    with serving(lambda number: CHUNKED if number % 2 else OK) as server:
        report = Load(plan(server)).run()

    assert report.statuses == {"200": 100, "202": 100}
    assert report.acknowledged == 200
    assert len(set(server.bodies)) == len(server.bodies) == 200
    assert report.rate == pytest.approx(200 / report.seconds)
    assert 0 < report.p50_ms <= report.p99_ms <= report.worst_ms
    assert (report.reconnects, report.unanswered, report.unsent) == (0, 0, 0)
    report.only_acknowledged("the server")


def test_refusals_are_counted_apart_and_looked_at():
    answers = {0: OK, 1: LATER, 2: NEVER, 3: LATER}
    with serving(lambda number: answers[number % 4]) as server:
        report = Load(plan(server)).run()

    assert report.statuses == {"200": 50, "503": 150}
    assert report.without_retry_after == 50
    with pytest.raises(Broken, match=r"the server answered \{'503': 150\}"):
        report.only_acknowledged("the server")


def test_connections_that_the_server_closes_are_opened_again():
    with serving(lambda number: None if number == 7 else LAST if number % 50 == 0 else OK) as server:
        report = Load(plan(server)).run()

    assert report.statuses == {"200": 199, "closed": 1}
    assert report.reconnects >= 4


def test_the_time_ends_a_run_and_what_was_sent_is_still_answered():
    def slowly(_number):
        time.sleep(0.05)
        return OK

    with serving(slowly) as server:
        report = Load(plan(server, count=100_00, seconds=0.5)).run()

    assert 8 <= report.acknowledged == len(server.bodies) < 1000
    assert 0.5 <= report.seconds < 10
    assert report.p50_ms >= 50


def test_an_open_loop_keeps_its_times_and_counts_what_finds_no_connection():
    def slowly(_number):
        time.sleep(0.4)
        return OK

    with serving(slowly) as server:
        report = Load(plan(server, seconds=1.0, connections=2, rate=50.0)).run()

    # Two connections with an answer each 0.4 seconds take at most six of the fifty.
    assert 2 <= report.acknowledged <= 6
    assert report.acknowledged + report.unsent == pytest.approx(50, abs=3)


def test_a_run_in_a_process_of_its_own():
    with serving(lambda _number: OK) as server:
        report = drive(plan(server, count=40))

        assert report.statuses == {"200": 40}
        port = server.port
    with pytest.raises(Broken, match="the load generator failed"):
        drive(Plan(port, "secret", 1, 1.0, 1))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", (False, False)),
        (OK[:-1], (False, False)),
        (OK, (True, False)),
        (CHUNKED[:-5], (False, False)),
        (CHUNKED, (True, False)),
        (LAST, (True, True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (True, False)),
    ],
)
def test_an_answer_is_whole_when_all_of_it_is_there(answer, expected):
    assert examine(answer)[1:] == expected
