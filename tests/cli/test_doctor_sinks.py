"""What `verisink doctor` says of sinks."""

import json

import pytest

from tests.cli.conftest import Shell
from tests.support.services import free_port, redis_client

NAME = "VERISINK_SINKS__DECISIONS__"


def check(shell: Shell, url: str) -> dict[str, str]:
    shell.environment |= {f"{NAME}TYPE": "redis_stream", f"{NAME}URL": url, f"{NAME}STREAM": "mine"}
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
