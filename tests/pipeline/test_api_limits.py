"""How often the API may be asked, together where there is a Redis and never kept waiting by one."""

import pytest

from tests.support.services import RedisServer, free_port
from worker.clock import monotonic
from worker.pipeline.api_limits import WRONG_PER_MINUTE, ApiLimits, Standing


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def url(request):
    return None if request.param == "memory" else request.getfixturevalue("redis_url")


def spent(limits, token="t"):
    standing = limits.spend(token)
    assert standing is not None
    return standing


def test_each_token_has_a_minute_of_its_own(url):
    limits = ApiLimits(2, url)

    assert spent(limits) == Standing(True, 1, 60)
    assert (spent(limits).taken, spent(limits, "other").taken) == (True, True)
    refused = spent(limits)
    assert (refused.taken, refused.left) == (False, 0)
    assert 55 <= refused.more_in <= 60


def test_what_was_refused_is_not_counted(url):
    limits = ApiLimits(1, url)
    assert [spent(limits).taken for _ in range(4)] == [True, False, False, False]
    assert spent(limits).more_in <= 60


def test_nothing_is_limited_by_0(url):
    assert [ApiLimits(0, url).spend("t") for _ in range(3)] == [None] * 3


@pytest.mark.redis
def test_processes_share_a_limit_through_redis(redis_url):
    first, second = ApiLimits(3, redis_url), ApiLimits(3, redis_url)

    assert [spent(limits).taken for limits in (first, second, first, second)] == [True, True, True, False]


def test_a_redis_that_is_not_there_refuses_nobody(capsys):
    limits = ApiLimits(2, f"redis://:canary@127.0.0.1:{free_port()}/0")

    assert [spent(limits).taken for _ in range(3)] == [True, True, False]
    said = capsys.readouterr().out
    assert said.count("budget_store_unavailable") == 1
    assert "canary" not in said


@pytest.mark.redis
def test_a_redis_that_hangs_keeps_nobody_waiting():
    with RedisServer() as server:
        limits = ApiLimits(1000, server.url)
        assert spent(limits).left == 999
        server.pause()
        began = monotonic()
        assert [spent(limits).taken for _ in range(100)] == [True] * 100
        took = monotonic() - began
        server.resume()

    assert took < 3, "one question that waits for an answer, and none after it"


def test_wrong_tokens_are_counted_whatever_the_limit_and_told_of_once(capsys):
    limits = ApiLimits(0, None)

    taken = [limits.spend_wrong().taken for _ in range(WRONG_PER_MINUTE + 20)]

    assert taken == [True] * WRONG_PER_MINUTE + [False] * 20
    assert capsys.readouterr().out.count("api_tokens_guessed") == 1
