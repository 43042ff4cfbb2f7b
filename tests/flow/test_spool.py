"""The spool in real receivers: a database that is stopped and started, disks that are full, and processes that are
killed while they keep and while they hand over."""

import hashlib
import json
import os
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flow.conftest import Install
from tests.store import databases
from tests.support.evidence import Row, assert_nothing_lost, flow, rows
from tests.support.processes import Child, Installation, answers, eventually
from tests.support.services import PostgresServer
from web.app import create_app
from web.health import SPOOLING
from web.simulator.credentials import Setting
from web.simulator.notifications import Notice, compose, sign
from web.simulator.notifier import Notifier
from web.simulator.server import Simulator
from worker.clock import monotonic
from worker.errors import SchemaMismatch
from worker.runtime import Runtime
from worker.settings import Settings
from worker.store import schema, spool

# Receivers start several times here, and each start takes seconds where the cores are busy.
pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.timeout(300)]

SEEDS = range(1, 1 + int(os.environ.get("VERISINK_TEST_SPOOL_SEEDS", "1")))
"""Each takes half a minute and more. Another seed kills at other moments, and is run by hand."""

KINDS = {"persona": "inquiry", "verifik": "biometric-validation", "gu1": "kyc-validation", "yoti": "session"}

HEARD = 5.0
"""Seconds after which Persona gives up."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One of this module's own, because it is stopped; and it keeps what it committed, however it is stopped."""
    with PostgresServer(fsync=True) as server:
        yield server


@pytest.fixture
def migrated_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create_database(postgres.template("spool", databases.migrate))
    yield url
    if postgres.process is None:
        postgres.start()
    postgres.drop_database(url)


@contextmanager
def away(postgres: PostgresServer) -> Iterator[None]:
    """The database's server, ended as by a crash, and started again."""
    postgres.stop("immediate")
    try:
        yield
    finally:
        postgres.start()


Spooling = Callable[..., Installation]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spooling(install: Install, migrated_url: str, folder: Path) -> Spooling:
    """Makes an installation with a spool."""

    def make(**settings: Setting) -> Installation:
        common: dict[str, Setting] = {"spool_dir": str(folder), "spool_min_free_bytes": 0, "web_processes": 2}
        return install(database_url=migrated_url, **{**common, **settings})

    return make


def handed_over(folder: Path) -> None:
    eventually(lambda: spool.look(folder).deliveries == 0, "the spool is empty", 60)


def metric(url: str, name: str) -> float:
    [line] = [line for line in httpx.get(url + "/metrics", trust_env=False).text.splitlines() if line.startswith(name)]
    return float(line.split()[-1])


def notices(simulator: Simulator, count: int) -> list[Notice]:
    """Each of them tells of another resource."""
    world = simulator.world
    wanted = [(name, kind) for name, kind in KINDS.items()] * (count // len(KINDS))
    return [compose(world, world.create(provider, kind)) for provider, kind in wanted]


@pytest.mark.redis
def test_webhooks_are_taken_while_the_database_is_away_and_their_results_arrive(
    postgres: PostgresServer, spooling: Spooling, folder: Path, redis_url: str, simulator: Simulator
) -> None:
    installation = spooling(broker_url=redis_url)
    web, worker = installation.web(), installation.worker()
    with flow(simulator, installation, web.url) as running:
        send = running.notifier.send
        before, during = notices(simulator, 8), notices(simulator, 60)
        assert {send(notice).status for notice in before} == {200}
        with away(postgres):
            receipts = [send(notice) for notice in during]
            assert {receipt.status for receipt in receipts} == {200}
            assert {json.loads(receipt.answer)["status"] for receipt in receipts} == {"accepted"}
            assert max(receipt.seconds for receipt in receipts) < HEARD
            assert sorted(receipt.seconds for receipt in receipts)[30] < 1
            ready = httpx.get(web.url + "/readyz", trust_env=False)
            assert (ready.status_code, ready.json()["checks"]["database"]) == (200, SPOOLING)
            eventually(lambda: metric(web.url, "verisink_spool_deliveries ") == 60, "the depth is told")
            size = sum(len(notice.body) for notice in during)
            eventually(lambda: metric(web.url, "verisink_spool_bytes ") > size, "all of it is counted")
        handed_over(folder)

        running.settled(60)
        assert_nothing_lost(running)
        acknowledged = [uuid.UUID(json.loads(receipt.answer)["delivery"]) for receipt in receipts]
        found = running.rows("SELECT id, repeats FROM deliveries ORDER BY received_at")
        assert [row["id"] for row in found][8:] == acknowledged
        assert {row["repeats"] for row in found} == {0}
        calls = running.rows("SELECT resource_id, count(*) AS n FROM attempts GROUP BY resource_id")
        assert max(int(str(row["n"])) for row in calls) <= 2
        eventually(lambda: metric(web.url, "verisink_spool_deliveries ") == 0, "the depth is told")
        assert len(web.logged("spooling_began")) <= 4
        assert len(web.logged("spool_handed_over")) <= 4
    assert [worker.stop(), web.stop()] == [0, 0]


def test_receivers_that_start_without_a_database_take_webhooks_from_the_first_second(
    postgres: PostgresServer, spooling: Spooling, folder: Path, simulator: Simulator
) -> None:
    installation = spooling()
    with away(postgres):
        web = installation.web()
        with flow(simulator, installation, web.url) as running:
            receipts = [running.notifier.send(notice) for notice in notices(simulator, 8)]
        assert {receipt.status for receipt in receipts} == {200}
        # What was kept outlives the processes that kept it.
        assert web.stop() == 0
        assert spool.look(folder).deliveries == 8
        web = installation.web()
    handed_over(folder)
    ids = {json.loads(receipt.answer)["delivery"] for receipt in receipts}
    assert {str(row["id"]) for row in running.rows("SELECT id FROM deliveries")} == ids
    eventually(lambda: answers(web.url + "/readyz"), "ready")
    assert web.stop() == 0


def test_over_its_limit_it_answers_503_and_when(
    postgres: PostgresServer, spooling: Spooling, folder: Path, simulator: Simulator
) -> None:
    installation = spooling(spool_max_bytes=1 << 20, web_processes=1)
    web = installation.web()
    with flow(simulator, installation, web.url) as running, away(postgres):
        answered = []
        for number, notice in enumerate(notices(simulator, 40)):
            padded = replace(notice, body=notice.body + b" " * (200_000 if number < 5 else 10_000))
            answered.append(running.notifier.post(sign(simulator.credentials, padded)))
        kept = [answer.status_code for answer in answered].index(503)
        assert 5 < kept < 20
        assert {answer.status_code for answer in answered[kept:]} == {503}
        assert answered[-1].headers["Retry-After"] == "5"
        assert answered[-1].json() == {"error": "the database is not available, and the spool is full"}
        ready = httpx.get(web.url + "/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "the spool is full")
        assert len(web.logged("spool_trouble")) == 1
    handed_over(folder)
    assert len(running.rows("SELECT id FROM deliveries")) == kept
    assert web.stop() == 0


class Weather:
    """Sends from many threads, and keeps account of every request: acknowledged, or perhaps stored all the same."""

    def __init__(self, notifier: Notifier, rng: random.Random) -> None:
        self.notifier, self.rng = notifier, rng
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.unanswered: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}
        self.repeating = threading.Lock()
        self._lock = threading.Lock()

    def send(self, notice: Notice) -> None:
        key = (notice.ref.provider, hashlib.sha256(notice.body).hexdigest())
        receipt = self.notifier.send(notice)
        with self._lock:
            (self.acknowledged if receipt.acknowledged else self.unanswered)[key] += 1
            if receipt.acknowledged:
                self.first.setdefault(key, json.loads(receipt.answer)["delivery"])

    def send_all(self, batch: Sequence[Notice], meanwhile: Callable[[], None]) -> None:
        """Everything once, a fifth twice, and what was not acknowledged again; `meanwhile` runs beside."""
        again = [notice for notice in batch if self.rng.random() < 0.2]
        with ThreadPoolExecutor(9) as pool:
            beside = pool.submit(meanwhile)
            list(pool.map(self.send, batch))
            for notice in again:
                # A repeat whose commit a stopping database cuts off may be counted twice; see docs/operating.md.
                with self.repeating:
                    self.send(notice)
            beside.result()


def kill_now_and_then(web: Child, rng: random.Random, times: int) -> None:
    for _ in range(times):
        threading.Event().wait(rng.uniform(0.1, 0.9))
        receivers = sorted(web.children())
        if receivers:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(rng.choice(receivers)).kill()


@pytest.mark.parametrize("seed", SEEDS)
def test_receivers_killed_while_they_keep_and_while_they_hand_over_lose_and_repeat_nothing(
    seed: int, postgres: PostgresServer, spooling: Spooling, folder: Path, simulator: Simulator
) -> None:
    rng = random.Random(seed)
    installation = spooling()
    web = installation.web()
    with Notifier(web.url, simulator.credentials, timeout=HEARD, threads=1) as notifier:
        weather = Weather(notifier, rng)
        for _ in range(2):
            with weather.repeating:
                postgres.stop("immediate")
            weather.send_all(notices(simulator, 160), lambda: kill_now_and_then(web, rng, 3))
            postgres.start()
            # Webhooks arrive beside what is handed over, and receivers die at both.
            weather.send_all(notices(simulator, 60), lambda: kill_now_and_then(web, rng, 3))
    handed_over(folder)
    eventually(lambda: answers(web.url + "/readyz"), "ready", 60)
    assert web.stop() == 0

    found = {(str(row["source"]), str(row["body_sha256"])): row for row in stored(installation)}
    assert sum(weather.acknowledged.values()) > 400
    assert set(weather.acknowledged) - set(found) == set()
    for key, row in found.items():
        count = 1 + int(str(row["repeats"]))
        assert weather.acknowledged[key] <= count <= weather.acknowledged[key] + weather.unanswered[key], key
        assert int(str(row["wanted"])) == (1 if key[0] == "persona" else count), key
        if (weather.acknowledged[key], weather.unanswered[key]) == (1, 0):
            assert weather.first[key] == str(row["id"])
    died = web.logged("child_died", code=-9)
    assert len(died) >= 6


def stored(installation: Installation) -> list[Row]:
    return rows(
        installation.database_url,
        """
        SELECT d.id, d.source, d.body_sha256, d.repeats, r.wanted
        FROM deliveries d JOIN delivery_resources l ON l.delivery_id = d.id JOIN resources r ON r.id = l.resource_id
        """,
    )


# Readiness, in this process.


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    values = {"database_url": f"sqlite:///{tmp_path / 'verisink.db'}", "spool_dir": tmp_path / "spool"}
    made = Runtime(Settings.model_validate({**values, "spool_min_free_bytes": 0}))
    yield made
    made.close()


def ready(runtime: Runtime) -> tuple[int, str]:
    answer = create_app(runtime).test_client().get("/readyz")
    assert answer.json is not None
    return answer.status_code, answer.json["checks"]["database"]


def test_a_receiver_that_can_keep_webhooks_stays_in_the_balancer(runtime: Runtime, tmp_path: Path) -> None:
    schema.migrate(runtime.database)
    assert ready(runtime) == (200, "ok")
    assert runtime.spooling is not None

    runtime.spooling.found_away(TimeoutError())
    assert ready(runtime) == (200, SPOOLING)

    runtime.spooling.stop()
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    (tmp_path / "spool" / "spool.db").write_bytes(b"not a database" * 99)
    status, sentence = ready(runtime)
    assert (status, "not a database" in sentence) == (503, True)


def test_a_spool_does_not_hide_a_database_that_was_never_migrated(runtime: Runtime) -> None:
    with pytest.raises(SchemaMismatch, match="run `verisink migrate`"):
        runtime.start_receiving()
    status, sentence = ready(runtime)
    assert (status, "run `verisink migrate`" in sentence) == (503, True)


def test_a_full_spool_is_not_ready(runtime: Runtime) -> None:
    assert runtime.spooling is not None
    runtime.spooling._spool._min_free_bytes = 1 << 60
    began = monotonic()
    runtime.spooling.found_away(TimeoutError())

    assert ready(runtime) == (503, "the spool is full")
    assert monotonic() - began < HEARD
