"""The webhook sink over real sockets: what it sends, what it makes of answers, and how long it waits."""

import json
import ssl

import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from tests.sinks.conftest import FOREIGN, NEW, OLD, SHORT
from tests.support.receiver import TAKEN, event, receiving
from tests.support.talk import OK, serving
from worker.clock import monotonic
from worker.sinks.base import EventRefused, SinkDisabled, TryLater
from worker.sinks.webhook import BadAnswer, NoConnection, ReceiverAway, Redirected, TimedOut

HOST = "receiver.example"


def status(line, headers=b""):
    return b"HTTP/1.1 " + line + b"\r\n" + headers + b"Content-Length: 0\r\n\r\n"


def test_an_event_is_a_signed_post_of_the_cloud_event(webhook):
    with receiving() as posts:
        webhook(posts.url + "/hooks/1?key=value").deliver([event()])

    [post] = posts.got
    assert post.line == "POST /hooks/1?key=value HTTP/1.1"
    assert Webhook(NEW).verify(post.body, post.headers) == event()
    assert post.headers["content-type"].startswith("application/cloudevents+json")
    assert post.headers["webhook-id"] == "id-7"
    assert post.headers["host"] == f"127.0.0.1:{posts.port}"
    assert post.headers["user-agent"] == "verisink"
    assert {"cookie", "authorization", "transfer-encoding"}.isdisjoint(post.headers)
    assert json.loads(post.body) == event()


def test_both_secrets_sign_while_one_is_changed(webhook):
    with receiving() as posts:
        webhook(posts.url, secrets=(NEW, OLD)).deliver([event()])

    [post] = posts.got
    assert len(post.headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(post.body, post.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(FOREIGN).verify(post.body, post.headers)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp"])
def test_what_is_signed_cannot_be_changed(webhook, changed):
    with receiving() as posts:
        webhook(posts.url).deliver([event()])
    [post] = posts.got
    if changed == "body":
        post.body = post.body.replace(b"approved", b"rejected") + b" "
    else:
        post.headers[changed] = post.headers[changed][:-1] + "9x"[post.headers[changed].endswith("9")].replace("x", "0")

    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(post.body, post.headers)


def test_a_connection_is_used_again_and_the_order_is_kept(webhook):
    with receiving() as posts:
        sink = webhook(posts.url)
        for number in range(5):
            sink.deliver([event(number)])
        sink.close()

        assert posts.ids == [f"id-{number}" for number in range(5)]
        assert posts.server.connections == 1


@pytest.mark.parametrize("line", [b"200 OK", b"201 Created", b"202 Accepted", b"299 Odd"])
def test_every_2xx_takes_the_event(webhook, line):
    with receiving(status(line)) as posts:
        webhook(posts.url).deliver([event()])

    assert posts.ids == ["id-7"]


@pytest.mark.parametrize(
    ("line", "raised"),
    [
        (b"410 Gone", SinkDisabled),
        *((b"%d Refused" % number, EventRefused) for number in (400, 403, 404, 409, 413, 415, 422, 451, 499)),
        *((b"%d Away" % number, ReceiverAway) for number in (401, 405, 408, 425, 429, 500, 502, 503, 504, 599)),
    ],
)
def test_refusals_are_told_apart(webhook, line, raised):
    with receiving(status(line, b"X: canary\r\n")) as posts, pytest.raises(raised) as refusal:
        webhook(posts.url).deliver([event()])

    assert str(refusal.value) == f"the receiver answered {line[:3].decode()}"
    if isinstance(refusal.value, ReceiverAway):
        assert refusal.value.http_status == int(line[:3])


def test_nothing_of_an_answer_but_its_status_is_repeated(webhook):
    body = b"HTTP/1.1 422 canary\r\nContent-Length: 6\r\n\r\ncanary"
    with receiving(body) as posts, pytest.raises(EventRefused) as refusal:
        webhook(posts.url + "/canary?canary").deliver([event()])

    assert "canary" not in f"{refusal.value!r}"


@pytest.mark.parametrize("line", [b"429 Slow", b"503 Busy"])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (b"Retry-After: 7\r\n", 7),
        (b"Retry-After: 0\r\n", 0),
        (b"Retry-After: 99999999\r\n", 24 * 3600),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 2025 10:01:30 GMT\r\n", 90),
        (b"Date: Fri, 21 Nov 2025 10:00:00 GMT\r\nRetry-After: Fri, 21 Nov 2999 10:01:30 GMT\r\n", 24 * 3600),
    ],
)
def test_a_pause_that_is_asked_for_is_passed_on(webhook, line, headers, seconds):
    with receiving(status(line, headers)) as posts, pytest.raises(TryLater) as refusal:
        webhook(posts.url).deliver([event()])

    assert refusal.value.seconds == seconds


@pytest.mark.parametrize("line", [b"429 Slow", b"503 Busy"])
def test_a_pause_that_cannot_be_read_leaves_the_receiver_away(webhook, line):
    with receiving(status(line, b"Retry-After: soon\r\n")) as posts, pytest.raises(ReceiverAway):
        webhook(posts.url).deliver([event()])


@pytest.mark.parametrize("number", [301, 302, 303, 304, 307, 308])
def test_redirects_are_not_followed(webhook, number):
    with receiving() as elsewhere:
        answer = status(b"%d Moved" % number, f"Location: {elsewhere.url}/\r\n".encode())
        with receiving(answer) as posts, pytest.raises(Redirected, match=f"answered {number}: redirects are not"):
            webhook(posts.url).deliver([event()])

    assert len(posts.got) == 1
    assert elsewhere.server.connections == 0


def silent(server, connection):
    server.stop.wait(10)


def dripping(server, connection):
    server.drip(connection, b"X")


def dripping_head(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nX: ")
    server.drip(connection, b"y")


def interim(server, connection):
    server.drip(connection, b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, dripping_head, interim])
def test_the_whole_call_has_one_limit(webhook, answer):
    with receiving(answer) as posts:
        begun = monotonic()
        with pytest.raises(TimedOut, match="no answer: "):
            webhook(posts.url, seconds=SHORT).deliver([event()])

        assert SHORT <= monotonic() - begun < SHORT + 1


def endless(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.stop.is_set():
        server.send(connection, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def slow_body(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    server.drip(connection, b"x")


def cut_body(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxx")


@pytest.mark.parametrize("answer", [endless, slow_body, cut_body])
def test_the_status_is_enough_and_the_rest_is_not_waited_for(webhook, answer):
    with receiving(answer) as posts:
        sink = webhook(posts.url, seconds=SHORT)
        begun = monotonic()
        sink.deliver([event()])

        assert monotonic() - begun <= sink.call_seconds + 1
        # The socket's buffers take some megabytes before the other side notices.
        assert posts.server.sent < 32 * 1024 * 1024


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", OK, OK + b"X: y\r\n" * 20_000])
def test_what_is_no_answer_takes_nothing(webhook, answer):
    def talk(server, connection):
        server.send(connection, answer)

    with receiving(talk) as posts, pytest.raises(BadAnswer):
        webhook(posts.url).deliver([event()])


def test_a_receiver_that_is_not_there(webhook):
    with receiving() as posts:
        url = posts.url
    with pytest.raises(ReceiverAway) as refusal:
        webhook(url).deliver([event()])

    assert str(refusal.value) == "no answer: ConnectError"


def test_a_receiver_that_closes_between_two_events_gets_both(webhook):
    def once(server, connection):
        server.send(connection, TAKEN)

    with receiving(once) as posts:
        sink = webhook(posts.url)
        sink.deliver([event(1)])
        posts.server.closed.wait(5)
        sink.deliver([event(2)])

    assert posts.ids == ["id-1", "id-2"]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def contexts(authority, name):
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_over_tls_to_the_address_that_was_judged_under_the_name(webhook, authority):
    server, client = contexts(authority, HOST)
    with receiving(tls=server) as posts:
        url = f"https://{HOST}:{posts.port}/x"
        webhook(url, tls=client, resolver=lambda *_: ["127.0.0.1"]).deliver([event()])

    assert posts.got[0].headers["host"] == f"{HOST}:{posts.port}"
    assert Webhook(NEW).verify(posts.got[0].body, posts.got[0].headers)


def test_a_certificate_for_another_name_or_of_another_authority_is_refused(webhook, authority):
    other, client = contexts(authority, "other.example")
    for tls in (other, contexts(trustme.CA(), HOST)[0]):
        with receiving(tls=tls) as posts, pytest.raises(NoConnection, match="no answer: ConnectError"):
            webhook(f"https://{HOST}:{posts.port}", tls=client, resolver=lambda *_: ["127.0.0.1"]).deliver([event()])
        assert posts.got == []


def test_a_handshake_that_hangs_is_within_the_limit(webhook, authority):
    _, client = contexts(authority, HOST)
    with serving(silent) as server:
        sink = webhook(f"https://{HOST}:{server.port}", seconds=SHORT, tls=client, resolver=lambda *_: ["127.0.0.1"])
        begun = monotonic()
        with pytest.raises(ReceiverAway):
            sink.deliver([event()])

        assert monotonic() - begun < SHORT + 1
