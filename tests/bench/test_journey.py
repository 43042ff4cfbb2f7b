"""A webhook's journey is timed at each place that it reaches, and one that ends nowhere is an error."""

import socket
import sqlite3
import threading
from contextlib import closing

import pytest

from bench import journey
from bench.journey import STREAM, Journeys, Times
from bench.protocol import Broken
from bench.webhooks import KIND, identifiers
from tests.support.services import redis_client

ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}"
SECRET = "secret"
BATCH = "journey"


class Place:
    """A receiver, a database and a stream that a webhook passes: what is slower than the answer comes later."""

    def __init__(self, folder, redis_url, *, status=200, stores=True) -> None:
        self.url = f"sqlite:///{folder / 'place.db'}"
        self.redis_url, self.status, self.stores = redis_url, status, stores
        with closing(sqlite3.connect(folder / "place.db", isolation_level=None)) as file:
            file.execute("CREATE TABLE v1_results (source, kind, external_id)")
        self.file = folder / "place.db"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.thread.join(10)

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            for external_id in identifiers("ver", BATCH, 3):
                if not connection.recv(65_536):
                    return
                connection.sendall(ANSWER % self.status)
                if self.stores:
                    self.store(external_id.decode())

    def store(self, external_id):
        with closing(sqlite3.connect(self.file, isolation_level=None)) as file:
            file.execute("INSERT INTO v1_results VALUES ('persona', ?, ?)", (KIND, external_id))
        threading.Event().wait(0.05)
        with redis_client(self.redis_url) as client:
            client.xadd(STREAM, {"subject": f"{KIND}/{external_id}"})


def travel(place):
    port = place.listener.getsockname()[1]
    with Journeys(port, SECRET, place.redis_url, place.url) as journeys:
        return journeys.travel(BATCH, [0.0, 0.01, 0.01])


@pytest.mark.redis
def test_each_place_is_timed_in_its_order(tmp_path, redis_url):
    with Place(tmp_path, redis_url) as place:
        times = travel(place)

    assert len(times.ack) == len(times.row) == len(times.event) == 3
    for ack, row, event in zip(times.ack, times.row, times.event, strict=True):
        assert 0 < ack <= row <= event
        assert event >= 50


@pytest.mark.redis
@pytest.mark.parametrize(
    ("more", "said"), [({"status": 503}, "answered with b'http/1.1 503"), ({"stores": False}, "no result after")]
)
def test_one_that_ends_nowhere_is_an_error(tmp_path, redis_url, monkeypatch, more, said):
    monkeypatch.setattr(journey, "PATIENCE_SECONDS", 0.5)
    with Place(tmp_path, redis_url, **more) as place, pytest.raises(Broken, match=said):
        travel(place)


def test_a_round_is_summed_up_by_its_middle_and_its_worst():
    times = Times(ack=[1.0, 3.0, 2.0], row=[30.0, 10.0, 20.0], event=[5.0])

    assert times.sample() == {
        "ack_p50_ms": 2.0,
        "ack_p99_ms": 3.0,
        "row_p50_ms": 20.0,
        "row_p99_ms": 30.0,
        "event_p50_ms": 5.0,
        "event_p99_ms": 5.0,
    }
