"""The faults, one function each, and the table of them. Each leaves everything running when it returns."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
import redis

from tests.chaos.town import LEASE_SECONDS, START_SECONDS, Town, kill, shifted_clock, soon
from tests.chaos.weather import Weather
from tests.support.services import ServiceUnavailable, redis_client
from web.simulator.faults import Faults
from web.simulator.world import PROVIDERS

DEATH_SECONDS = 10.0
"""How long a call is waited for whose maker is to die: while a provider is down, there is none."""

LEADER_SECONDS = 15.0
"""Three times a leader's lease: so long nobody leads at most."""

WRONG_BY = 600
"""Seconds by which a clock is wrong."""

REFUSED_TABLES = ("deliveries", "versions", "attempts")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may touch. `outage_seconds` is how long a provider is down."""

    town: Town
    weather: Weather
    rng: random.Random
    outage_seconds: float


Inject = Callable[[Scene], int]
"""Do it; returns how often it was done, which is 0 where there was nothing to strike."""


def kill_receiver(scene: Scene) -> int:
    return kill(scene.town.web_pids(), scene.rng)


def kill_worker(scene: Scene) -> int:
    return kill(scene.town.worker_pids(), scene.rng)


def kill_sweep_leader(scene: Scene) -> int:
    """The holder of the lease names its process. One that has just died is still named until its lease is over."""
    leaders: list[int] = []

    def found() -> bool:
        holders = scene.town.rows("SELECT holder FROM leases WHERE name = 'sweep'")
        pids = {int(str(row["holder"]).split(":")[1]) for row in holders}
        leaders[:] = [pid for pid in scene.town.worker_pids() if pid in pids]
        return bool(leaders)

    soon(found, LEADER_SECONDS)
    return kill(leaders, scene.rng)


def kill_before_writing(scene: Scene) -> int:
    """The worker has the answer, and dies before it has written anything of it."""
    before = scene.weather.killed
    scene.weather.arm()
    soon(lambda: scene.weather.killed > before, DEATH_SECONDS)
    scene.weather.disarm()
    return scene.weather.killed - before


def freeze_worker(scene: Scene) -> int:
    """Its claims run out while it is frozen, and then it goes on as if nothing had happened."""
    pids = scene.town.worker_pids()
    if not pids:
        return 0
    frozen = scene.rng.choice(pids)
    os.kill(frozen, signal.SIGSTOP)
    try:
        time.sleep(LEASE_SECONDS + 2)
    finally:
        with suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGCONT)
    return 1


def shift_clock(scene: Scene) -> int:
    """One worker's clock is ten minutes ahead, or behind."""
    number = scene.rng.randrange(len(scene.town.workers))
    shift = scene.rng.choice((WRONG_BY, -WRONG_BY))
    scene.town.replace_worker(number, **shifted_clock(shift))
    try:
        time.sleep(LEASE_SECONDS + 3)
    finally:
        scene.town.replace_worker(number)
    return 1


def deploy(scene: Scene) -> int:
    scene.town.deploy(rolling=scene.rng.random() < 0.5)
    return 1


def restart_redis(scene: Scene) -> int:
    server = scene.town.ground.redis
    with redis_client(server.url) as client, suppress(redis.ConnectionError):
        client.shutdown(nosave=True)
    server.kill()
    time.sleep(scene.rng.uniform(0.5, 3))
    server.start()
    return 1


def flush_redis(scene: Scene) -> int:
    with redis_client(scene.town.ground.redis.url) as client:
        client.flushall()
    return 1


def freeze_redis(scene: Scene) -> int:
    server = scene.town.ground.redis
    server.pause()
    try:
        time.sleep(scene.rng.uniform(2, 5))
    finally:
        server.resume()
    return 1


def crash_postgres(scene: Scene) -> int:
    server = scene.town.ground.postgres
    server.stop("immediate")
    time.sleep(scene.rng.uniform(0.2, 3))
    revive_postgres(scene)
    return 1


def cut_connections(scene: Scene) -> int:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'verisink'"
    for _ in range(3):
        scene.town.ground.postgres.execute(cut)
        time.sleep(0.3)
    return 1


def fill_disk(scene: Scene) -> int:
    """PostgreSQL may refuse, or even end itself; then whoever watches over it starts it again, which is us."""
    disk = scene.town.ground.disk
    if disk is None:
        return 0
    disk.fill()
    try:
        time.sleep(scene.rng.uniform(3, 6))
    finally:
        disk.free()
        revive_postgres(scene)
    return 1


def refuse_writes(scene: Scene) -> int:
    """As a full disk looks to who writes: reading goes on, and whole kinds of statements fail."""
    with refusing(scene, scene.rng.choice(REFUSED_TABLES)):
        time.sleep(scene.rng.uniform(2, 5))
    return 1


@contextmanager
def refusing(scene: Scene, table: str) -> Iterator[None]:
    """Every insert into `table` fails as on a full disk."""
    scene.town.ground.postgres.execute(
        f"""
        CREATE OR REPLACE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER chaos_refuse BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION chaos_refuse();
        """,
        scene.town.database,
    )
    try:
        yield
    finally:
        scene.town.ground.postgres.execute(f"DROP TRIGGER chaos_refuse ON {table}", scene.town.database)


def revive_postgres(scene: Scene) -> None:
    """Start the server if it has ended, and return when it answers."""
    server = scene.town.ground.postgres

    def answers() -> bool:
        try:
            if server.process is None or server.process.poll() is not None:
                server.start()
            server.execute("SELECT 1")
        except (ServiceUnavailable, psycopg.OperationalError):
            return False
        else:
            return True

    if not soon(answers, START_SECONDS, pause=0.2):
        raise ServiceUnavailable(f"PostgreSQL did not come back; its log ends: {tail(server.home / 'log')}")


def tail(path: os.PathLike[str]) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()[-2000:]


def provider_down(scene: Scene) -> int:
    return trouble(scene, Faults(outage=True), scene.outage_seconds)


def provider_hangs(scene: Scene) -> int:
    return trouble(scene, Faults(hang=True, share=0.5), scene.rng.uniform(4, 8))


def answers_truncated(scene: Scene) -> int:
    return trouble(scene, Faults(truncated=True, share=0.5), scene.rng.uniform(2, 5))


def answers_html(scene: Scene) -> int:
    return trouble(scene, Faults(html=True, share=0.5), scene.rng.uniform(2, 5))


def answers_empty(scene: Scene) -> int:
    return trouble(scene, Faults(empty=True, share=0.5), scene.rng.uniform(2, 5))


def answers_huge(scene: Scene) -> int:
    return trouble(scene, Faults(big_megabytes=10, share=0.2), scene.rng.uniform(2, 5))


def trouble(scene: Scene, faults: Faults, seconds: float) -> int:
    """One provider has these troubles for so long."""
    provider = scene.rng.choice(PROVIDERS)
    scene.weather.worsen(provider, faults)
    try:
        time.sleep(seconds)
    finally:
        scene.weather.clear(provider)
    return 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble. Faults of one lane follow each other; the lanes run beside each other, so a worker may be
    killed while the database is away. The `main` ones are also in the short version; `long` ones happen once a run."""

    name: str
    lane: str
    inject: Inject
    main: bool = False
    long: bool = False


FAULTS = (
    Fault("receiver killed", "processes", kill_receiver, main=True),
    Fault("worker killed", "processes", kill_worker, main=True),
    Fault("sweep leader killed", "processes", kill_sweep_leader, main=True),
    Fault("worker killed before writing", "processes", kill_before_writing, main=True),
    Fault("worker frozen past its lease", "processes", freeze_worker, main=True),
    Fault("worker's clock wrong", "processes", shift_clock),
    Fault("everything deployed anew", "processes", deploy, main=True),
    Fault("Redis restarted empty", "redis", restart_redis, main=True),
    Fault("Redis flushed", "redis", flush_redis, main=True),
    Fault("Redis frozen", "redis", freeze_redis),
    Fault("PostgreSQL crashed", "database", crash_postgres, main=True),
    Fault("connections cut", "database", cut_connections, main=True),
    Fault("disk full", "database", fill_disk),
    Fault("writes refused", "database", refuse_writes, main=True),
    Fault("provider down", "provider", provider_down, main=True, long=True),
    Fault("provider hangs", "provider", provider_hangs),
    Fault("answers truncated", "provider", answers_truncated, main=True),
    Fault("answers HTML", "provider", answers_html),
    Fault("answers empty", "provider", answers_empty),
    Fault("answers of 10 MB", "provider", answers_huge),
)
