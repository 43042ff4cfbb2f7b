"""Where a webhook may go: the address that is called is the one that was judged, however a name leads to it."""

import socket
import threading

import httpcore
import pytest

from tests.sinks.conftest import SHORT
from tests.support.receiver import event, receiving
from worker.clock import monotonic
from worker.http import deadline
from worker.sinks.webhook import AddressRefused, ReceiverAway

PUBLIC = "93.184.216.34"
SPELLINGS = ["127.0.0.1", "2130706433", "0x7f.1", "0177.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:10.0.0.1"],
        ["fe80::1%lo"],
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
    ],
)
def test_a_name_that_leads_inside_is_not_called(webhook, addresses, monkeypatch):
    called = []
    monkeypatch.setattr(deadline, "connect", lambda address, *_: called.append(address))

    with pytest.raises(AddressRefused):
        webhook("https://rebind.example/x", allow=False, resolver=lambda *_: addresses).deliver([event()])
    assert called == []


def test_the_name_is_looked_up_once_and_the_address_is_called(webhook, monkeypatch):
    answers, called = [[PUBLIC], ["127.0.0.1"]], []

    def connect(address, port, *_):
        called.append((address, port))
        raise httpcore.ConnectError

    monkeypatch.setattr(deadline, "connect", connect)
    sink = webhook("https://rebind.example/x", allow=False, resolver=lambda *_: answers.pop(0))

    with pytest.raises(ReceiverAway, match="no answer: ConnectError"):
        sink.deliver([event()])
    with pytest.raises(AddressRefused):
        sink.deliver([event()])
    assert called == [(PUBLIC, 443)]


@pytest.mark.parametrize("host", SPELLINGS)
def test_this_machine_is_not_called_in_any_spelling(webhook, host, monkeypatch):
    monkeypatch.setattr(deadline, "connect", lambda *_: pytest.fail("was called"))
    with pytest.raises(AddressRefused):
        webhook(f"https://{host}/", allow=False).deliver([event()])


def test_a_network_of_ones_own_is_called_where_that_is_allowed(webhook):
    with receiving() as posts:
        webhook(f"http://own.example:{posts.port}", resolver=lambda *_: ["127.0.0.1"]).deliver([event()])

    assert posts.ids == ["id-7"]


def test_the_metadata_of_a_cloud_is_never_called(webhook):
    with pytest.raises(AddressRefused):
        webhook("http://own.example", resolver=lambda *_: ["169.254.169.254"]).deliver([event()])


@pytest.mark.parametrize("error", [socket.gaierror("canary"), UnicodeError("canary")])
def test_a_name_that_is_not_there(webhook, error):
    def resolver(*_):
        raise error

    with pytest.raises(ReceiverAway) as refusal:
        webhook("https://gone.example", allow=False, resolver=resolver).deliver([event()])
    assert str(refusal.value) == "no answer: ConnectError"


def test_a_resolver_that_hangs_is_within_the_limit(webhook):
    stop = threading.Event()

    def resolver(*_):
        stop.wait(10)
        return [PUBLIC]

    begun = monotonic()
    with pytest.raises(ReceiverAway, match="no answer: ConnectTimeout"):
        webhook("https://slow.example", seconds=SHORT, resolver=resolver).deliver([event()])
    stop.set()
    assert monotonic() - begun < SHORT + 1


def test_proxies_of_the_environment_are_not_used(webhook, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with receiving() as posts:
        webhook(posts.url).deliver([event()])

    assert posts.ids == ["id-7"]
