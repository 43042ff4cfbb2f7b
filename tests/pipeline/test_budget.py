"""One budget for each source, shared where it can be."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.services import RedisServer, free_port, redis_client
from worker.clock import monotonic
from worker.domain.states import Priority
from worker.pipeline.budget import Budgets, Grant
from worker.settings import Source

SOURCES = {
    slug: Source.model_validate({"slug": slug, "provider": "gu1", "rate_limit_per_minute": limit})
    for slug, limit in (("ten", 10), ("other", 5))
}


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def url(request):
    return None if request.param == "memory" else request.getfixturevalue("redis_url")


@pytest.fixture
def budgets(url):
    return Budgets(SOURCES, url)


def test_a_budget_is_spent_and_is_one_sources_own(budgets):
    assert budgets.left("ten") == 10
    assert budgets.take("ten", 4) is True

    assert (budgets.left("ten"), budgets.left("other")) == (6, 5)


def test_calls_are_given_all_or_none(budgets):
    assert budgets.take("ten", 8) is True
    assert budgets.take("ten", 3) is False
    assert budgets.left("ten") == 2
    assert budgets.take("ten", 2) is True
    assert (budgets.left("ten"), budgets.take("ten", 1)) == (0, False)


def test_many_takers_never_overspend(budgets):
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: budgets.take("ten", 1), range(40))) == 10


def test_what_is_not_live_leaves_a_share_for_what_is(budgets):
    assert budgets.left("ten", Priority.REPLAY) == 8
    assert budgets.take("ten", 9, Priority.REPLAY) is False
    assert budgets.take("ten", 8, Priority.BACKFILL) is True

    assert budgets.left("ten", Priority.RECONCILE) == 0
    assert budgets.take("ten", 1, Priority.RECONCILE) is False
    assert budgets.left("ten") == 2
    assert budgets.take("ten", 2) is True


def test_live_work_may_spend_it_all(budgets):
    assert budgets.take("ten", 10) is True
    assert (budgets.left("ten", Priority.REPLAY), budgets.take("ten", 1, Priority.REPLAY)) == (0, False)


def test_a_grant_is_as_much_as_there_is(budgets):
    assert budgets.grant("ten", calls=6, low=6) == Grant(6, 6, 4, 2)
    assert budgets.grant("ten", calls=6, low=6) == Grant(4, 2, 0, 0)
    assert budgets.grant("ten", calls=6, low=6) == Grant(0, 0, 0, 0)


def test_what_was_not_called_is_given_back(budgets):
    granted = budgets.grant("ten", calls=10, low=8)

    # One live call and two others were made.
    budgets.give_back("ten", calls=granted.calls - 3, low=granted.low - 2)

    assert (budgets.left("ten"), budgets.left("ten", Priority.REPLAY)) == (7, 6)


def test_a_limit_of_one_serves_everybody():
    tiny = {"tiny": Source.model_validate({"slug": "tiny", "provider": "gu1", "rate_limit_per_minute": 1})}

    assert Budgets(tiny, None).take("tiny", 1, Priority.REPLAY) is True


@pytest.mark.redis
def test_the_minute_is_redis_own_and_slides(redis_url):
    budgets = Budgets(SOURCES, redis_url)
    budgets.take("ten", 10)
    with redis_client(redis_url) as client:
        [oldest, *_] = client.lrange("verisink:{budget:ten}:calls", 0, -1)
        seconds, microseconds = client.time()
        assert abs(int(oldest) - (seconds * 1_000_000 + microseconds)) < 60_000_000
        assert 0 < client.ttl("verisink:{budget:ten}:calls") <= 61

        # Three calls grow older than a minute.
        for place in range(3):
            client.lset("verisink:{budget:ten}:calls", place, str(int(oldest) - 60_000_001))

    assert budgets.left("ten") == 3


@pytest.mark.redis
def test_workers_share_one_budget_through_redis(redis_url):
    first, second = Budgets(SOURCES, redis_url), Budgets(SOURCES, redis_url)

    assert first.take("ten", 7) is True
    assert second.left("ten") == 3
    assert second.take("ten", 4) is False


def test_without_its_redis_each_process_counts_by_itself():
    budgets = Budgets(SOURCES, f"redis://:canary@127.0.0.1:{free_port()}/0")

    began = monotonic()
    assert (budgets.left("ten"), budgets.take("ten", 10), budgets.take("ten", 1)) == (10, True, False)
    assert monotonic() - began < 3


@pytest.mark.redis
def test_a_redis_that_comes_back_is_used_again(capsys):
    with RedisServer() as server:
        budgets = Budgets(SOURCES, server.url, away_seconds=0)
        assert budgets.take("ten", 6) is True
        server.stop()
        assert budgets.take("ten", 9) is True, "counted locally"
        server.start()
        assert budgets.left("ten") == 10, "a restarted Redis is empty"

    assert "budget_store_unavailable" in capsys.readouterr().out
