"""httpx's transport for retrieve calls: what it keeps, and how it tells a whole answer from a cut one."""

import ssl
import threading
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from tests.pipeline.plant import wait_until
from tests.support.greenlets import each_way as each_way
from tests.support.greenlets import ways
from tests.support.talk import OK, answer, serving, whole
from worker.http import transport as transport_module
from worker.http.deadline import DeadlineBackend, deadline
from worker.http.transport import HEAD_BYTES, Transport

TIMEOUT = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), 5.0)}


@contextmanager
def sending(most_kept=4):
    transport = Transport(DeadlineBackend(waiter=ways[-1].waiter), most_kept=most_kept)
    try:
        yield transport
    finally:
        transport.close()


def get(transport, url, headers=None):
    """One call, read to its end, in the way that the test runs in at the moment. Connections are of no way: what a
    test does by itself, it does in its thread."""
    return ways[-1].run(partial(get_here, transport, url, headers))


def get_here(transport, url, headers):
    request = httpx.Request("GET", url, headers=headers or {}, extensions=TIMEOUT)
    response = transport.handle_request(request)
    try:
        return response.status_code, b"".join(response.iter_raw())
    finally:
        response.close()


def every(*answers):
    """Gives these answers on one connection, one for each request, and then waits for the end."""

    def talk(server, connection):
        for each in answers:
            server.read_head(connection)
            server.send(connection, each)
        server.stop.wait(5)

    return talk


def sized(body, head=OK):
    return head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_connection_is_used_again():
    with serving(every(sized(b"one"), sized(b"two"))) as server, sending() as transport:
        assert [get(transport, server.url)[1] for _ in range(2)] == [b"one", b"two"]
        assert server.connections == 1


def kept(transport, server):
    """The connection that the next call would use again."""
    return transport._take(transport_module._origin(httpx.URL(server.url)))


@pytest.mark.parametrize(
    "first",
    [
        sized(b"one") + sized(b"for nobody"),
        sized(b"one") + b"garbage",
        sized(b"one", OK + b"Connection: close\r\n") + b"x",
        sized(b"one", OK + b"Connection: close\r\n"),
        sized(b"one", b"HTTP/1.0 200 OK\r\n"),
    ],
    ids=["an answer too much", "garbage behind", "a byte behind its end", "it says so", "HTTP/1.0"],
)
def test_a_connection_that_cannot_be_trusted_is_not_used_again(first):
    with serving(every(first)) as server, sending() as transport:
        assert get(transport, server.url) == (200, b"one")
        assert kept(transport, server) is None


def test_what_comes_while_nobody_asks_ends_a_connection():
    answered = threading.Event()

    def talk(server, connection):
        server.read_head(connection)
        server.send(connection, sized(b"one"))
        answered.wait(5)
        server.send(connection, sized(b"forged"))
        server.stop.wait(5)

    with serving(talk) as server, sending() as transport:
        assert get(transport, server.url)[1] == b"one"
        [[connection]] = transport._idle.values()
        answered.set()
        wait_until(lambda: connection.stream.get_extra_info("is_readable"))
        assert kept(transport, server) is None


def test_an_old_connection_is_not_used_again(monkeypatch):
    with serving(every(sized(b"one"), sized(b"two"))) as server, sending() as transport:
        get(transport, server.url)
        monkeypatch.setattr(transport_module, "KEPT_SECONDS", -1.0)
        assert kept(transport, server) is None


def test_no_more_connections_are_kept_than_asked_for():
    with serving(every(sized(b"one"))) as server, sending(most_kept=2) as transport:
        responses = [transport.handle_request(httpx.Request("GET", server.url, extensions=TIMEOUT)) for _ in range(5)]
        for response in responses:
            assert b"".join(response.iter_raw()) == b"one"
            response.close()
        assert [len(kept) for kept in transport._idle.values()] == [2]


def test_a_body_without_a_length_ends_with_its_connection():
    with serving(answer(OK, b"all of it")) as server, sending() as transport:
        assert get(transport, server.url) == (200, b"all of it")
        assert not any(transport._idle.values())


def test_a_body_in_chunks():
    chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n4;x=y\r\n two\r\n0\r\nX-Trailer: 1\r\n\r\n"
    with serving(every(OK + chunks)) as server, sending() as transport:
        response = transport.handle_request(httpx.Request("GET", server.url, extensions=TIMEOUT))
        assert b"".join(response.iter_raw()) == b"one two"
        assert "x-trailer" not in response.headers
        response.close()
        assert [len(kept) for kept in transport._idle.values()] == [1]


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200",
        OK + b"Content-Le",
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nsho",
    ],
)
def test_a_cut_answer_is_never_a_whole_one(cut):
    def talk(server, connection):
        server.read_head(connection)
        server.send(connection, cut)

    with serving(talk) as server, sending() as transport, pytest.raises(httpx.RemoteProtocolError):
        get(transport, server.url)


@pytest.mark.parametrize(
    "strange",
    [
        b"SSH-2.0-OpenSSH\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Bad Header: 1\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_not_read(strange):
    with serving(every(strange)) as server, sending() as transport, pytest.raises(httpx.RemoteProtocolError):
        get(transport, server.url)


def test_words_before_the_answer_are_passed_over():
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + b"HTTP/1.1 100 Continue\r\n\r\n"
    with serving(every(early + sized(b"one"), sized(b"two"))) as server, sending() as transport:
        response = transport.handle_request(httpx.Request("GET", server.url, extensions=TIMEOUT))
        assert (response.status_code, "link" in response.headers, b"".join(response.iter_raw())) == (200, False, b"one")
        response.close()
        assert get(transport, server.url) == (200, b"two")


def endless_header(server, connection):
    server.read_head(connection)
    server.send(connection, OK)
    while not server.stop.is_set():
        server.send(connection, b"X-A: " + b"a" * 8000 + b"\r\n")


def endless_hints(server, connection):
    server.read_head(connection)
    while not server.stop.is_set():
        server.send(connection, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


@pytest.mark.parametrize("talk", [endless_header, endless_hints])
def test_a_head_has_an_end(talk):
    with serving(talk) as server, sending() as transport:
        with pytest.raises(httpx.RemoteProtocolError, match="head is too long"):
            get(transport, server.url)
        assert server.sent >= HEAD_BYTES


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_has_no_body_leaves_its_connection_open(status):
    with serving(every(b"HTTP/1.1 " + status + b"\r\n\r\n", sized(b"two"))) as server, sending() as transport:
        assert get(transport, server.url)[1] == b""
        assert get(transport, server.url) == (200, b"two")
        assert server.connections == 1


def test_an_answer_that_nobody_read_to_its_end_takes_its_connection_along():
    with serving(every(sized(b"a" * 200_000))) as server, sending() as transport:
        transport.handle_request(httpx.Request("GET", server.url, extensions=TIMEOUT)).close()
        assert not any(transport._idle.values())


@pytest.mark.parametrize("headers", [{"X-A": "1\r\nX-B: 2"}, {"X-A": "1\n"}, {"X-A\r\nX-B": "1"}, {"X-A": "\x00"}])
def test_no_header_can_bring_another_along(headers):
    with serving(whole(b"{}")) as server, sending() as transport:
        with pytest.raises(httpx.LocalProtocolError):
            get(transport, server.url, headers)
        assert server.heads == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///path", "/path"])
def test_only_http_is_spoken(url):
    with sending() as transport, pytest.raises(httpx.UnsupportedProtocol):
        get(transport, url)


def test_the_request_is_sent_as_it_stands():
    with serving(whole(b"{}")) as server, sending() as transport:
        get(transport, server.url + "/a%2Fb?signature=a%2Bb&c", {"X-Key": "k"})
        [head] = server.heads
        assert head.startswith("GET /a%2Fb?signature=a%2Bb&c HTTP/1.1\r\n")
        assert "\r\nX-Key: k\r\n" in head
        assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in head


def test_tls_is_checked():
    """A server that does not speak TLS, and so cannot prove who it is, hears no credential."""
    with serving(whole(b"{}")) as server, sending() as transport, deadline(5):
        with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
            get(transport, server.url.replace("http://", "https://"), {"Authorization": "Bearer x"})
        assert "Bearer" not in "".join(server.heads)
    assert transport._tls.verify_mode is ssl.CERT_REQUIRED
    assert transport._tls.check_hostname
