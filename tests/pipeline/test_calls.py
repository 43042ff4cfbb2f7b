"""Calls in one thread: many wait at once, and none waits for another."""

import socket
import threading
from functools import partial

import httpx
import pytest
import trustme

from tests.sinks.test_webhook import contexts
from tests.support.greenlets import PATIENCE, greenlets
from tests.support.receiver import receiving
from tests.support.talk import OK, serving, whole
from worker.clock import monotonic
from worker.http.deadline import DeadlineBackend, deadline
from worker.http.transport import Transport
from worker.pipeline.calls import Calls
from worker.providers.base import OutboundRequest
from worker.providers.client import ProviderClient, RetrieveFailed
from worker.providers.gu1 import Gu1Provider

HOST = "provider.example"
MANY = 100


@pytest.fixture
def way():
    with greenlets() as made:
        yield made


def client(way, **options):
    return ProviderClient(**{"call_deadline": 5, "max_bytes": 10**6, **options}, waiter=way.waiter)


def fetch(made, server):
    return made.fetch(Gu1Provider(), OutboundRequest(server.url, {}))


def together(expected):
    """Answers nobody before so many have asked."""
    asked, everybody = [], threading.Event()

    def talk(server, connection):
        server.read_head(connection)
        asked.append(connection)
        if len(asked) == expected:
            everybody.set()
        everybody.wait(PATIENCE)
        server.send(connection, OK + b"Content-Length: 2\r\n\r\n{}")

    return talk


def test_a_hundred_calls_wait_at_once_in_one_thread(way):
    used = set()

    def call(made, server):
        used.add(threading.get_ident())
        return fetch(made, server).body

    with serving(together(MANY)) as server, client(way) as made:
        bodies = [way.begin(partial(call, made, server)) for _ in range(MANY)]
        assert [body.result(PATIENCE) for body in bodies] == [b"{}"] * MANY

    assert len(used) == 1


def test_each_call_has_a_deadline_of_its_own(way):
    """They share a thread, and the one that is short must not cut the other."""
    with serving(together(3)) as server, client(way, call_deadline=0.2) as short, client(way) as long:
        patient = way.begin(partial(fetch, long, server))
        hasty = way.begin(partial(fetch, short, server))
        with pytest.raises(RetrieveFailed):
            hasty.result(PATIENCE)
        assert not patient.done()
        fetch(long, server)
        assert patient.result(PATIENCE).body == b"{}"


def test_connecting_holds_nobody_up(way, monkeypatch):
    """A host that swallows all packets, and a resolver that does not answer, are waited for without the thread."""
    free = threading.Event()
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: free.wait(10) and [] if host == HOST else real(host, *more, **options),
    )
    with full_backlog() as swallowing, serving(whole(b"{}")) as server, client(way, call_deadline=2) as made:
        hanging = [
            way.begin(partial(made.fetch, Gu1Provider(), OutboundRequest(url, {})))
            for url in [f"http://{HOST}/", f"http://127.0.0.1:{swallowing}/"]
        ]
        began = monotonic()
        assert fetch_in(way, made, server) == b"{}"
        assert monotonic() - began < 1
        assert not any(call.done() for call in hanging)
        for call in hanging:
            with pytest.raises(RetrieveFailed) as failed:
                call.result(PATIENCE)
            assert failed.value.failure.detail == "ConnectTimeout"
        free.set()


def fetch_in(way, made, server):
    return way.run(partial(fetch, made, server)).body


class full_backlog:
    """A port of this machine on which nobody accepts, and no more connections have room."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._waiting = []
        address = self._listener.getsockname()
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(address)
            self._waiting.append(waiting)
        return address[1]

    def __exit__(self, *_):
        for each in [*self._waiting, self._listener]:
            each.close()


def test_over_tls(way):
    server_side, client_side = contexts(trustme.CA(), HOST)
    transport = Transport(DeadlineBackend(lambda *_: ["127.0.0.1"], waiter=way.waiter), most_kept=1, tls=client_side)
    with receiving(tls=server_side) as posts:
        url = f"https://{HOST}:{posts.port}/"

        def call():
            with deadline(5):
                response = transport.handle_request(httpx.Request("POST", url, content=b"a" * 300_000))
                body = response.read()
                response.close()
                return response.status_code, body

        assert way.run(call)[0] == way.run(call)[0] == 204
        [kept] = transport._idle.values()
        assert len(kept) == 1, "the second call used the connection of the first"
        transport.close()


def test_a_certificate_of_another_host_is_refused(way):
    server_side, client_side = contexts(trustme.CA(), "another.example")
    transport = Transport(DeadlineBackend(lambda *_: ["127.0.0.1"], waiter=way.waiter), most_kept=1, tls=client_side)
    with receiving(tls=server_side) as posts, pytest.raises(httpx.ConnectError):
        way.run(lambda: transport.handle_request(httpx.Request("GET", f"https://{HOST}:{posts.port}/")))


def test_what_takes_long_is_done_aside_while_others_go_on(way):
    begun, free = threading.Event(), threading.Event()

    def long():
        begun.set()
        return free.wait(PATIENCE), threading.current_thread().name

    working = way.begin(lambda: way.calls.aside(long))
    assert begun.wait(PATIENCE)
    assert way.run(lambda: 1) == 1
    free.set()
    assert working.result(PATIENCE) == (True, "call-aside-0")


def test_nothing_runs_before_the_first_call_and_nothing_after_the_last():
    calls, before = Calls(), threads()
    calls.close()
    assert threads() == before
    done = threading.Event()
    calls.start([done.set])
    assert done.wait(PATIENCE)
    calls.close()
    ends = monotonic() + PATIENCE
    while threads() != before and monotonic() < ends:
        threading.Event().wait(0.01)
    assert threads() == before


def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name == "calls")
