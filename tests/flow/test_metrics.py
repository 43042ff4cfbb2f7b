"""One scrape shows all processes of a host, also after one of them was killed; workers are scraped at a port of their
own, and receivers that have one say nothing at the public port.
"""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.flow.conftest import Install
from tests.support.evidence import Flow, flow
from tests.support.processes import Child, eventually
from web.simulator.server import Simulator

pytestmark = [pytest.mark.flow]

WORKERS = {"web_processes": 2, "worker_processes": 2}


def scrape(url: str) -> dict[str, float]:
    """All samples, without their labels where these are only names: the sum of each."""
    answer = httpx.get(url, timeout=10, trust_env=False)
    assert answer.status_code == 200, answer.text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def served_at(child: Child) -> str:
    """Where a process says that it is scraped."""
    [line] = child.ready(lambda: child.logged("metrics_ready"))
    return str(line["url"])


def accepted(url: str) -> float:
    return scrape(url).get("verisink_ack_seconds_count", 0)


def notify(running: Flow, count: int) -> None:
    world = running.simulator.world
    for _ in range(count):
        ref = world.create("gu1", "kyc-validation").ref
        assert running.tell(world.change(ref, "approve")).status == 200


@pytest.fixture
def distributed(
    install: Install, simulator: Simulator, postgres_url: str, redis_server_url: str
) -> Iterator[tuple[Flow, Child, Child]]:
    home = install(database_url=postgres_url, broker_url=redis_server_url, **WORKERS)
    assert home.run("migrate").process.returncode == 0
    worker = home.start("worker", VERISINK_METRICS_PORT="0")
    web = home.web()
    with flow(simulator, home, web.url) as running:
        yield running, web, worker
    assert [web.stop(), worker.stop()] == [0, 0]


@pytest.mark.postgres
@pytest.mark.redis
def test_all_processes_of_a_host_are_in_one_scrape(distributed):
    running, web, worker = distributed
    before = accepted(web.url + "/metrics")
    notify(running, 20)

    # A webhook is counted just after it was answered. Both receivers answer, each for both.
    eventually(lambda: accepted(web.url + "/metrics") - before == 20, "the last one counts")
    assert {accepted(web.url + "/metrics") - before for _ in range(6)} == {20}

    victim = next(iter(web.children().values()))
    victim.kill()
    eventually(lambda: len(web.children()) == 2 and victim.pid not in web.children(), "a successor")
    eventually(lambda: scrape(web.url + "/metrics").get("verisink_process_starts_total") == 3, "its count")
    notify(running, 10)
    eventually(lambda: accepted(web.url + "/metrics") - before == 30, "the last one counts")
    assert {accepted(web.url + "/metrics") - before for _ in range(6)} == {30}

    url = served_at(worker)
    eventually(lambda: scrape(url).get("verisink_freshness_stored_seconds_count", 0) >= 30, "results")
    found = scrape(url)
    assert found["verisink_retrieve_seconds_count"] == found["verisink_attempts_total"] >= 30
    assert found["verisink_database_up"] == 1
    assert found["verisink_process_starts_total"] == 2
    assert found["verisink_budget_left_calls"] > 0


def test_embedded_shows_everything_at_its_own_port_and_nothing_at_the_public_one(install, simulator):
    home = install(metrics_port=0)
    up = home.up()
    with flow(simulator, home, up.url) as running:
        notify(running, 3)
        url = served_at(up)
        stages = [f"verisink_freshness_{stage}_seconds_count" for stage in ("told", "stored", "delivered")]
        # Each result is created and decided at once.
        eventually(lambda: [scrape(url).get(name) for name in stages] == [3, 3, 6], "events")
    assert httpx.get(up.url + "/metrics", trust_env=False).status_code == 404
    assert up.stop() == 0
