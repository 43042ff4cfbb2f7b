"""Calls in one thread: many wait at once, and none waits for another."""

import gc
import socket
import struct
import sys
import threading
from functools import partial

import httpx
import pytest
import trustme

from tests.pipeline.plant import wait_until
from tests.sinks.test_webhook import contexts
from tests.support.greenlets import PATIENCE, greenlets
from tests.support.receiver import receiving
from tests.support.talk import OK, serving, whole
from worker.clock import monotonic
from worker.http import deadline as deadlines
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
        assert posts.server.connections == 1, "the second call used the connection of the first"
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
    wait_until(lambda: not threads())
    calls = Calls()
    calls.close()
    assert not threads()
    done = threading.Event()
    calls.start([done.set])
    assert done.wait(PATIENCE)
    assert threads()
    calls.close()
    wait_until(lambda: not threads())


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "calls"]


def test_a_call_that_breaks_takes_no_other_along(way):
    """Whatever it raises: extensions of Python raise what is no Exception."""

    class Panic(BaseException):
        pass

    def broken():
        raise Panic

    done = threading.Event()
    way.calls.start([broken, lambda: sys.exit(1), done.set])
    assert done.wait(PATIENCE)
    assert way.run(lambda: 1) == 1


def test_closing_ends_what_is_under_way(way):
    ended, waiting = [], threading.Event()

    def call():
        with serving(silence) as server, client(way) as made:
            waiting.set()
            try:
                fetch(made, server)
            except BaseException as error:
                ended.append(type(error).__name__)
                raise

    way.calls.start([call])
    assert waiting.wait(PATIENCE)
    threading.Event().wait(0.1)
    way.calls.close()
    wait_until(lambda: ended)
    assert ended == ["GreenletExit"]


def silence(server, connection):
    server.stop.wait(PATIENCE)


def test_who_sends_without_end_over_tls_holds_nobody_up(way):
    """Each of its reads finds something, so that it would never wait."""
    server_side, client_side = contexts(trustme.CA(), HOST)
    transport = Transport(DeadlineBackend(lambda *_: ["127.0.0.1"], waiter=way.waiter), most_kept=1, tls=client_side)
    longest = []

    def talk(server, connection):
        with server_side.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
            while not server.stop.is_set():
                secured.sendall(b"a: b\r\n" * 2000)

    with serving(talk) as server:

        def call():
            with deadline(1.5):
                response = transport.handle_request(httpx.Request("GET", f"https://{HOST}:{server.port}/"))
                try:
                    return response.read()
                finally:
                    response.close()

        talking = way.begin(call)
        while not talking.done():
            began = monotonic()
            way.run(lambda: None)
            longest.append(monotonic() - began)
            threading.Event().wait(0.01)
        with pytest.raises(httpx.TransportError):
            talking.result()

    assert len(longest) > 10
    assert max(longest) < 0.7


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_connection_that_is_reset_before_it_is_secured_is_network_trouble(way, monkeypatch):
    def reset(_server, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    connect = deadlines.connect

    def slowly(*place):
        opened = connect(*place)
        threading.Event().wait(0.2)
        return opened

    monkeypatch.setattr(deadlines, "connect", slowly)
    with serving(reset) as server, client(way) as made, pytest.raises(RetrieveFailed) as failed:
        way.run(lambda: made.fetch(Gu1Provider(), OutboundRequest(server.url.replace("http:", "https:"), {})))

    assert failed.value.failure.detail == "ConnectError"
    # The standard library leaves its half-made socket to the garbage collector, which says so.
    del failed
    gc.collect()
