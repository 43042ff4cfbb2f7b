"""One budget for each source, shared where it can be."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.services import RedisServer, free_port
from worker.clock import monotonic
from worker.pipeline.budget import Budgets
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
        budgets = Budgets(SOURCES, server.url)
        assert budgets.take("ten", 6) is True
        server.stop()
        assert budgets.take("ten", 9) is True, "counted locally"
        server.start()
        assert budgets.left("ten") == 10, "a restarted Redis is empty"

    assert "budget_store_unavailable" in capsys.readouterr().out
