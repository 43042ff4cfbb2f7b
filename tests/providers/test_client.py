"""Retrieve calls against servers that behave badly, over real sockets."""

import gzip
import inspect
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import httpcore
import httpx
import pytest

from tests.support.greenlets import Way, ways
from tests.support.greenlets import each_way as each_way
from tests.support.talk import OK, Server, answer, serving, whole
from worker.clock import monotonic
from worker.domain.states import FailureKind
from worker.http import deadline
from worker.providers import client as client_module
from worker.providers.base import OutboundRequest
from worker.providers.client import ERROR_BODY_BYTES, ProviderClient, RetrieveFailed
from worker.providers.gu1 import Gu1Provider

PROVIDER = Gu1Provider()


class Client(ProviderClient):
    """Calls in the way that the test runs in at the moment."""

    def __init__(self, chosen: Way, call_deadline: float, max_bytes: int) -> None:
        super().__init__(call_deadline=call_deadline, max_bytes=max_bytes, waiter=chosen.waiter)
        self._chosen = chosen

    def fetch(self, provider, request):
        return self._chosen.run(partial(super().fetch, provider, request))


@contextmanager
def calling(call_deadline: float = 5, max_bytes: int = 1000) -> Iterator[ProviderClient]:
    with Client(ways[-1], call_deadline, max_bytes) as client:
        yield client


def failure_of(client, url, headers=None):
    with pytest.raises(RetrieveFailed) as refusal:
        client.fetch(PROVIDER, OutboundRequest(url, headers or {}))
    return refusal.value.failure


def test_an_answer_comes_whole():
    with serving(whole(b'{"a": 1}', b"Request-Id: r-1\r\n")) as server, calling() as client:
        got = client.fetch(PROVIDER, OutboundRequest(f"{server.url}/a/b?x=%2F&y=a+b", {"Authorization": "Bearer k"}))

    assert (got.status, got.body, got.request_id) == (200, b'{"a": 1}', "r-1")
    assert server.heads[0].startswith("GET /a/b?x=%2F&y=a+b HTTP/1.1\r\n"), "exactly as it was signed"
    assert "Authorization: Bearer k\r\n" in server.heads[0]
    assert "User-Agent: verisink\r\n" in server.heads[0]
    assert "Accept-Encoding: identity\r\n" in server.heads[0]


def silence(server, connection):
    server.stop.wait()


def dripping_status_line(server, connection):
    server.read_head(connection)
    server.send(connection, b"HTTP/1.1 200 ")
    server.drip(connection, b"O")


def dripping_headers(server, connection):
    server.read_head(connection)
    server.send(connection, OK)
    server.drip(connection, b"X-A: 1\r\n")


def dripping_body(server, connection):
    server.read_head(connection)
    server.send(connection, OK + b"Content-Length: 100000\r\n\r\n")
    server.drip(connection, b"{")


def dripping_chunks(server, connection):
    server.read_head(connection)
    server.send(connection, OK + b"Transfer-Encoding: chunked\r\n\r\n")
    server.drip(connection, b"1\r\nx\r\n")


def dripping_error(server, connection):
    server.read_head(connection)
    server.send(connection, b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n")
    server.drip(connection, b"x")


@pytest.mark.parametrize(
    "talk", [silence, dripping_status_line, dripping_headers, dripping_body, dripping_chunks, dripping_error]
)
def test_the_whole_call_has_one_deadline(talk):
    with serving(talk) as server, calling(call_deadline=0.15) as client:
        began = monotonic()
        failure = failure_of(client, server.url)
        took = monotonic() - began

    assert failure.kind is FailureKind.TIMEOUT
    assert took < 1.5


def test_the_deadline_holds_while_the_connection_is_secured():
    with serving(silence) as server, calling(call_deadline=0.15) as client:
        began = monotonic()
        assert failure_of(client, server.url.replace("http:", "https:")).kind is FailureKind.TIMEOUT
        assert monotonic() - began < 1.5


def test_a_deadline_ends_with_its_call():
    """Threads and connections are used again; what is left of one deadline must not cut the next call."""
    with serving(slowly) as server, calling(call_deadline=0.25) as client:
        for _ in range(4):
            assert client.fetch(PROVIDER, OutboundRequest(server.url, {})).body == b"{}"
        assert server.connections == 1


def slowly(server, connection):
    while True:
        server.read_head(connection)
        server.stop.wait(0.1)
        server.send(connection, OK + b"Content-Length: 2\r\n\r\n{}")


def reset(server, connection):
    server.read_head(connection)
    server.send(connection, OK + b"Content-Length: 100\r\n\r\n{")


def close_at_once(server, connection):
    server.read_head(connection)


@pytest.mark.parametrize("talk", [reset, close_at_once, answer(b"NOT HTTP AT ALL\r\n"), answer(b"HTTP/1.1 99 X\r\n")])
def test_broken_answers_are_network_trouble(talk):
    with serving(talk) as server, calling() as client:
        assert failure_of(client, server.url).kind is FailureKind.NETWORK


def test_nobody_listening_is_network_trouble():
    with serving(silence) as server:
        gone = server.url
    with calling() as client:
        assert failure_of(client, gone).kind is FailureKind.NETWORK


@pytest.mark.parametrize(("size", "fits"), [(0, True), (999, True), (1000, True), (1001, False), (10_000_000, False)])
def test_the_size_of_an_answer_has_an_end(size, fits):
    with serving(whole(b"x" * size)) as server, calling(max_bytes=1000) as client:
        if fits:
            assert len(client.fetch(PROVIDER, OutboundRequest(server.url, {})).body) == size
        else:
            failure = failure_of(client, server.url)
            assert (failure.kind, failure.http_status) == (FailureKind.UNREADABLE, 200)
            assert "1000 bytes" in failure.detail


def endless(status: bytes) -> Callable[[Server, socket.socket], None]:
    def talk(server: Server, connection: socket.socket) -> None:
        server.read_head(connection)
        server.send(connection, status + b"Transfer-Encoding: chunked\r\n\r\n")
        while not server.stop.is_set():
            server.send(connection, b"1000\r\n" + b"x" * 4096 + b"\r\n")

    return talk


@pytest.mark.parametrize("status", [OK, b"HTTP/1.1 500 No\r\n"])
def test_an_endless_answer_is_left_when_it_is_too_long(status):
    with serving(endless(status)) as server, calling() as client:
        failure_of(client, server.url)

    assert server.sent < 20_000_000 + ERROR_BODY_BYTES


BOMB = gzip.compress(gzip.compress(b"0" * 100_000_000))
"""A few hundred bytes that stand for 100 MB."""


@pytest.mark.parametrize(
    ("packed", "coding"),
    [(gzip.decompress(BOMB), "gzip"), (BOMB, "gzip, gzip"), (BOMB, "gzip\r\nContent-Encoding: gzip")],
    ids=["once", "stacked", "in two headers"],
)
@pytest.mark.parametrize("status", [OK, b"HTTP/1.1 500 No\r\n"], ids=["answer", "error"])
def test_a_small_answer_that_unpacks_to_a_huge_one_takes_no_memory(packed, coding, status):
    head = status + f"Content-Encoding: {coding}\r\nContent-Length: {len(packed)}\r\n".encode()
    with serving(answer(head, packed)) as server, calling(max_bytes=1_000_000) as client:
        tracemalloc.start()
        try:
            failure = failure_of(client, server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert failure.kind in (FailureKind.UNREADABLE, FailureKind.SERVER_ERROR)
    assert peak < 10_000_000


@pytest.mark.parametrize("coding", [b"gzip", b" GZIP ", b"Gzip"])
def test_an_answer_that_is_compressed_all_the_same_is_unpacked(coding):
    body = b'{"a": "' + b"x" * 500_000 + b'"}'
    packed = gzip.compress(body)
    headers = b"Content-Encoding: " + coding + b"\r\n"
    with serving(whole(packed, headers)) as server, calling(max_bytes=len(body)) as client:
        assert client.fetch(PROVIDER, OutboundRequest(server.url, {})).body == body
    with serving(whole(packed, headers)) as server, calling(max_bytes=len(body) - 1) as client:
        assert failure_of(client, server.url).kind is FailureKind.UNREADABLE


@pytest.mark.parametrize("coding", [b"gzip, gzip", b"br", b"deflate", b"zstd", b"gzip, identity"])
def test_a_coding_that_nobody_asked_for_is_unreadable(coding):
    with serving(whole(b"{}", b"Content-Encoding: " + coding + b"\r\n")) as server, calling() as client:
        assert failure_of(client, server.url).kind is FailureKind.UNREADABLE


def test_broken_gzip_is_unreadable():
    with serving(whole(b"not gzip", b"Content-Encoding: gzip\r\n")) as server, calling() as client:
        assert failure_of(client, server.url).kind is FailureKind.UNREADABLE


def resolving(monkeypatch, resolve):
    """Puts `resolve` in the place of the resolver, for every name that is not an address already."""
    real = socket.getaddrinfo

    def ask(host, port, *more, **options):
        if host != "provider.test":
            return real(host, port, *more, **options)
        return [place for address in resolve() for place in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", ask)


def named(server):
    return server.url.replace("127.0.0.1", "provider.test")


def test_a_resolver_that_hangs_costs_one_deadline(monkeypatch):
    free = threading.Event()
    resolving(monkeypatch, lambda: free.wait(10) and [])
    with serving(whole(b"{}")) as server, calling(call_deadline=0.15) as client:
        began = monotonic()
        failure = failure_of(client, named(server))
        took = monotonic() - began
        free.set()

    assert (failure.kind, failure.detail) == (FailureKind.TIMEOUT, "ConnectTimeout")
    assert took < 1.5
    assert server.connections == 0


def unknown():
    raise socket.gaierror("canary")


def unreadable():
    raise UnicodeError("canary")


@pytest.mark.parametrize("resolve", [unknown, unreadable, list])
def test_a_name_that_leads_nowhere_is_network_trouble(monkeypatch, resolve):
    resolving(monkeypatch, resolve)
    with calling() as client:
        failure = failure_of(client, "http://provider.test/")

    assert (failure.kind, failure.detail) == (FailureKind.NETWORK, "ConnectError")


def test_addresses_are_tried_until_one_answers(monkeypatch):
    """The server listens on one of them only; the others refuse, or swallow everything."""
    tried: list[str] = []
    connect = deadline.connect

    def reach(address, *more):
        tried.append(address)
        if address.startswith("192.0.2."):
            raise httpcore.ConnectTimeout
        return connect(address, *more)

    monkeypatch.setattr(deadline, "connect", reach)
    resolving(monkeypatch, lambda: ["192.0.2.1", "::1", "192.0.2.1", "192.0.2.2", "127.0.0.1", "192.0.2.3"])
    with serving(whole(b"{}")) as server, calling() as client:
        assert client.fetch(PROVIDER, OutboundRequest(named(server), {})).body == b"{}"

    assert tried == ["192.0.2.1", "::1", "192.0.2.2", "127.0.0.1"], "each once, and none after the one that answers"
    assert "\r\nHost: provider.test:" in server.heads[0]


def test_all_addresses_have_one_deadline(monkeypatch):
    waits: list[float] = []

    def swallow(_address, _port, timeout, _waiter):
        waits.append(timeout)
        threading.Event().wait(min(timeout, 0.1))
        raise httpcore.ConnectTimeout

    monkeypatch.setattr(deadline, "connect", swallow)
    resolving(monkeypatch, lambda: [f"192.0.2.{number}" for number in range(1, 100)])
    with calling(call_deadline=0.35) as client:
        began = monotonic()
        failure = failure_of(client, "http://provider.test/")
        took = monotonic() - began

    assert failure.kind is FailureKind.TIMEOUT
    assert took < 1.5
    assert waits == sorted(waits, reverse=True)
    assert len(waits) <= 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
    with serving(whole(b"{}")) as elsewhere:
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n".encode()
        with serving(answer(head)) as server, calling() as client:
            failure = failure_of(client, server.url, {"Authorization": "Bearer canary"})

    assert (failure.kind, failure.http_status) == (FailureKind.UNREADABLE, status)
    assert elsewhere.connections == 0


def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    with serving(whole(b'"proxy"')) as proxy, serving(whole(b"{}")) as server, calling() as early:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        with calling() as late:
            for client in (early, late):
                assert client.fetch(PROVIDER, OutboundRequest(server.url, {})).body == b"{}"
        assert proxy.connections == 0


def test_no_cookie_travels_from_one_account_to_another():
    with serving(whole(b"{}", b"Set-Cookie: session=canary; Path=/\r\n")) as server, calling() as client:
        for _ in range(2):
            client.fetch(PROVIDER, OutboundRequest(server.url, {}))

    assert len(server.heads) == 2
    assert "canary" not in server.heads[1]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        (b"", None),
        (b"Retry-After: 7\r\n", 7),
        (b"Retry-After: 0\r\n", 0),
        (b"retry-after: 120 \r\n", 120),
        (b"Retry-After: -5\r\n", None),
        (b"Retry-After: soon\r\n", None),
        (b"Retry-After: 1.5\r\n", None),
        (b"Retry-After: 999999999999999999\r\n", 7 * 86_400),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 2025 10:01:30 GMT\r\n", 90),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 2025 09:00:00 GMT\r\n", 0),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 2025 10:01:30 -0000\r\n", 90),
        (b"Retry-After: Fri, 21 Nov 2025 10:01:30 GMT\r\n", None),
        (b"Date: now\r\nRetry-After: Fri, 21 Nov 2025 10:01:30 GMT\r\n", None),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 99999999999999 10:01:30 GMT\r\n", None),
        (b"RateLimit-Reset: 42\r\n", 42),
        (b"Retry-After: 7\r\nRateLimit-Reset: 42\r\n", 7),
        (b"RateLimit-Reset: later\r\n", None),
    ],
)
def test_how_long_the_provider_asks_to_wait(headers, wait):
    with serving(answer(b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n" + headers)) as server, calling() as client:
        failure = failure_of(client, server.url)

    assert failure.kind is FailureKind.RATE_LIMITED
    assert failure.retry_after == (None if wait is None else timedelta(seconds=wait))


@pytest.mark.parametrize(("headers", "wait"), [(b"RateLimit-Reset: 42\r\n", None), (b"Retry-After: 7\r\n", 7)])
def test_an_outage_has_nothing_to_do_with_the_rate_limit(headers, wait):
    with serving(answer(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n" + headers)) as server, calling() as client:
        failure = failure_of(client, server.url)

    assert failure.kind is FailureKind.SERVER_ERROR
    assert failure.retry_after == (None if wait is None else timedelta(seconds=wait))


def test_a_refusal_is_classified_by_its_provider_and_quotes_nothing():
    head = b"HTTP/1.1 404 Canary\r\nX-Request-Id: r-2\r\nContent-Length: 6\r\n"
    with serving(answer(head, b"canary")) as server, calling() as client:
        failure = failure_of(client, f"{server.url}/canary?token=canary", {"Authorization": "canary"})

    assert (failure.kind, failure.http_status, failure.request_id) == (FailureKind.NOT_FOUND, 404, "r-2")
    assert "anary" not in failure.detail


def test_a_request_id_that_is_a_sentence_is_none():
    with serving(whole(b"{}", b"Request-Id: asked by Ada <ada@example.com>\r\n")) as server, calling() as client:
        assert client.fetch(PROVIDER, OutboundRequest(server.url, {})).request_id is None


def test_a_long_request_id_is_cut():
    with serving(whole(b"{}", b"Request-Id: " + b"r" * 5000 + b"\r\n")) as server, calling() as client:
        assert client.fetch(PROVIDER, OutboundRequest(server.url, {})).request_id == "r" * 128


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "not a url", "http://", "http://[::1", "http://127.0.0.1:99999/"]
)
def test_a_url_that_is_none_is_a_failure_and_is_not_quoted(url):
    with calling() as client:
        failure = failure_of(client, url)

    assert url not in failure.detail


def exception_classes(module):
    return [found for found in vars(module).values() if inspect.isclass(found) and issubclass(found, Exception)]


def test_everything_that_httpx_raises_has_a_meaning():
    """A newcomer among httpx's exceptions fails here, and not in production."""
    known = tuple(kind for kind, _ in client_module._FAILURES)
    strangers = [found.__name__ for found in exception_classes(httpx) if not issubclass(found, known)]

    # Raised when a cookie is looked up by name, which nobody does.
    assert strangers == ["CookieConflict"]


def test_the_special_comes_before_the_general():
    kinds = [kind for kind, _ in client_module._FAILURES]

    for place, general in enumerate(kinds):
        assert not [special for special in kinds[place + 1 :] if issubclass(special, general)]


TIMEOUTS = [found for found in exception_classes(httpx) if issubclass(found, httpx.TimeoutException)]


@pytest.mark.parametrize("error", TIMEOUTS)
def test_every_timeout_is_a_timeout(error):
    assert client_module._failure(error("x")).kind is FailureKind.TIMEOUT


def test_httpx_knows_everything_that_its_transport_raises():
    """Our connections raise httpcore's errors, which httpx's transport turns into its own."""
    names = {found.__name__ for found in exception_classes(httpx)}

    assert {"ReadTimeout", "WriteTimeout", "ConnectTimeout"} <= names & {
        found.__name__ for found in exception_classes(httpcore)
    }
