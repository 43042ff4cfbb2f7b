"""What `verisink doctor` says of sinks."""

import base64
import json
import socket

import pytest

from tests.cli.conftest import Shell
from tests.support.receiver import receiving
from tests.support.services import free_port, redis_client
from worker.cli import checks

NAME = "VERISINK_SINKS__DECISIONS__"


def check(shell: Shell, url: str) -> dict[str, str]:
    return checked(shell, TYPE="redis_stream", URL=url, STREAM="mine")


def checked(shell: Shell, **settings: str) -> dict[str, str]:
    shell.environment |= {NAME + key: value for key, value in settings.items()}
    result = shell.run("doctor", "--json", "--offline")
    assert "canary" not in result.output
    [found] = [found for found in json.loads(result.stdout) if found["name"] == "sink decisions"]
    return found


@pytest.mark.redis
def test_a_stream_that_is_there_or_can_be_made_is_fine(lonely, redis_url):
    assert check(lonely, redis_url)["state"] == "ok"
    with redis_client(redis_url) as client:
        client.xadd("mine", {"a": "b"})
        assert check(lonely, redis_url)["state"] == "ok"
        assert client.xlen("mine") == 1, "nothing was changed"


@pytest.mark.redis
def test_what_is_no_stream_fails(lonely, redis_url):
    with redis_client(redis_url) as client:
        client.set("mine", "text")

    found = check(lonely, redis_url)

    assert (found["state"], found["todo"]) == ("fail", "name another stream, or delete that key")


def test_a_redis_that_is_away_is_a_warning_because_events_wait(lonely):
    found = check(lonely, f"redis://:canary@127.0.0.1:{free_port()}/0")

    assert found["state"] == "warn"
    assert "its events wait in the database" in found["detail"]


def hook(url: str) -> dict[str, str]:
    secret = "whsec_" + base64.b64encode(b"canary-canary-canary-canary").decode()
    return {"TYPE": "webhook", "URL": url, "SECRETS": secret, "ALLOW_PRIVATE": "true"}


def test_a_receiver_that_can_be_reached_is_fine_and_is_sent_nothing(lonely):
    with receiving() as posts:
        found = checked(lonely, **hook(posts.url + "/canary?canary"))

    assert (found["state"], found["detail"]) == ("ok", f"{posts.url} can be reached")
    assert posts.got == []


def test_a_receiver_that_is_away_is_a_warning(lonely):
    found = checked(lonely, **hook(f"http://127.0.0.1:{free_port()}/canary"))

    assert found["state"] == "warn"
    assert "no answer: ConnectError" in found["detail"]


def test_a_receiver_whose_name_leads_inside_fails(lonely, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.1", 443))])
    found = checked(lonely, **hook("https://hooks.example/canary") | {"ALLOW_PRIVATE": "false"})

    assert (found["state"], found["todo"]) == ("fail", "set allow_private if it is in a network of your own")


TASK = {"TYPE": "celery", "TASK": "billing.on_verification", "QUEUE": "billing"}


@pytest.mark.redis
def test_a_broker_that_answers_is_fine(lonely, redis_url):
    assert checked(lonely, **TASK, BROKER_URL=redis_url)["state"] == "ok"


@pytest.mark.rabbitmq
def test_a_queue_that_is_not_there_fails(lonely, rabbit_url):
    found = checked(lonely, **TASK, BROKER_URL=rabbit_url)

    assert (found["state"], found["todo"]) == ("fail", "start the worker that serves it, or name another queue")


def test_a_broker_that_is_away_is_a_warning(lonely):
    found = checked(lonely, **TASK, BROKER_URL=f"redis://:canary@127.0.0.1:{free_port()}/0")

    assert found["state"] == "warn"


def test_a_file_is_fine_if_its_folder_is_there_and_it_is_one(lonely, tmp_path):
    path = tmp_path / "events"
    assert checked(lonely, TYPE="file", PATH=str(path))["state"] == "ok"
    assert not path.exists()
    path.mkdir()
    assert checked(lonely, TYPE="file", PATH=str(path))["state"] == "fail"
    found = checked(lonely, TYPE="file", PATH=str(tmp_path / "missing" / "events"))

    assert found["detail"] == f"{tmp_path / 'missing'} is no folder that may be written"


class Broken:
    """A sink of another package, whose look raises what it likes."""

    name, at_once, call_seconds, closed = "broken", 1, 1.0, False

    def deliver(self, events):
        raise NotImplementedError

    def check(self):
        raise RuntimeError("canary")

    def close(self):
        self.closed = True


def test_a_look_that_goes_wrong_is_one_line_of_many():
    sink = Broken()
    [found] = checks._sink("sink broken", sink)

    assert (found.state, found.detail) == ("fail", "looking at it raised RuntimeError")
    assert sink.closed
