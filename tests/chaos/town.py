"""The town that the faults strike: receivers and workers as processes of their own, and what they stand on.

Two supervised receivers share a port; two workers have a supervisor each, so that one of them can be given another
clock. All workers append to one log file, so the order of its lines is the order in which they were written.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil

from tests.chaos.disk import Disk, disk
from tests.support.evidence import Row, rows
from tests.support.processes import ROOT, Installation, answers
from tests.support.services import PostgresServer, RedisServer
from web.simulator.credentials import Credentials, Setting
from web.simulator.server import Simulator

LEASE_SECONDS = 5
"""Short, because the work of each killed worker waits for it; and at least twice the deadline of a call."""

CALL_SECONDS = 2.0
RECEIVERS = 2
WORKERS = 2
START_SECONDS = 60.0
STOP_SECONDS = 60.0
"""A process takes a second or two for either. Several test runs may share the machine."""

CLOCKS = Path(__file__).with_name("skewed_clock")

POSTGRES_SETTINGS = {
    # Two receivers and two workers keep some twenty connections each, and a rolling deploy doubles that.
    "max_connections": "250",
    # The log of changes must fit beside the tables on the small disk.
    "max_wal_size": "96MB",
}


class Crew:
    """One supervisor, and the processes below it."""

    def __init__(self, command: str, log: Path, environ: dict[str, str]) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.main", command],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """The processes that do the work; one that was killed and not yet buried does none."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return []

    def ask_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit status; a supervisor that hangs is killed, and that shows in the status."""
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass(frozen=True)
class Ground:
    """What the town stands on."""

    folder: Path
    simulator: Simulator
    postgres: PostgresServer
    redis: RedisServer
    disk: Disk | None
    installation: Installation


class Town:
    """The running processes. Only one thread at a time may replace them; anybody may ask who they are."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.web_log, self.worker_log = ground.folder / "web.log", ground.folder / "worker.log"
        self.web: Crew
        self.workers: list[Crew] = []

    @property
    def url(self) -> str:
        return self.ground.installation.url

    @property
    def database(self) -> str:
        """The name of the database inside the server."""
        return urlsplit(self.ground.installation.database_url).path.lstrip("/")

    def rows(self, statement: str) -> list[Row]:
        return rows(self.ground.installation.database_url, statement)

    def open(self) -> Self:
        """Migrate, start everything, and wait until it answers."""
        migration = self.ground.installation.run("migrate")
        if migration.process.returncode != 0:
            raise RuntimeError(f"the migration failed:\n{migration.log[-3000:]}")
        self.web = self._web()
        self.workers = [self._worker() for _ in range(WORKERS)]
        if not self.wait_until_ready():
            raise RuntimeError(f"the town did not start; its log ends:\n{self.web_log.read_text()[-3000:]}")
        return self

    def wait_until_ready(self) -> bool:
        """Whether receivers and workers are there within a time that is long for any machine."""

        def all_there() -> bool:
            crews = [self.web, *self.workers]
            return all(crew.pids() for crew in crews) and answers(self.url + "/livez")

        return soon(all_there, START_SECONDS)

    def web_pids(self) -> list[int]:
        return self.web.pids()

    def worker_pids(self) -> list[int]:
        return [pid for crew in self.workers for pid in crew.pids()]

    def replace_worker(self, number: int, **environ: str) -> None:
        """End one worker as an operator would, and start another in its place."""
        self._end([self.workers[number]])
        self.workers[number] = self._worker(**environ)
        self.wait_until_ready()

    def deploy(self, *, rolling: bool) -> None:
        """Start everything anew: rolling, when the new ones are there before the old ones go, or all at once."""
        old = [self.web, *self.workers]
        if not rolling:
            self._end(old)
        self.web, self.workers = self._web(), [self._worker() for _ in range(WORKERS)]
        self.wait_until_ready()
        if rolling:
            self._end(old)

    def close(self) -> list[int]:
        """End everything; returns the exit statuses."""
        # A supervisor that has only just been started would die of the signal, instead of obeying it.
        self.wait_until_ready()
        return self._end([self.web, *self.workers])

    @staticmethod
    def _end(crews: list[Crew]) -> list[int]:
        for crew in crews:
            crew.ask_to_end()
        return [crew.wait() for crew in crews]

    def _web(self) -> Crew:
        return Crew("web", self.web_log, self.ground.installation.environ)

    def _worker(self, **environ: str) -> Crew:
        return Crew("worker", self.worker_log, {**self.ground.installation.environ, **environ})


def shifted_clock(seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is so much ahead."""
    path = os.pathsep.join([str(CLOCKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "CHAOS_CLOCK_SHIFT_SECONDS": str(seconds)}


def soon(look: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Whether `look` becomes true within so many seconds."""
    ends = time.monotonic() + seconds
    while not look():
        if time.monotonic() > ends:
            return False
        time.sleep(pause)
    return True


def kill(pids: list[int], rng: random.Random) -> int:
    """Kill one of these processes as the kernel would; returns how many were there to be killed."""
    if not pids:
        return 0
    os.kill(rng.choice(pids), signal.SIGKILL)
    return 1


@contextmanager
def town(folder: Path, seed: int, *, small_disk: bool) -> Iterator[Town]:
    """A town with a database, a broker and providers of its own. Nothing of it outlives the block but its logs."""
    credentials = Credentials.generate(seed)
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(credentials, seed=seed))
        room = stack.enter_context(disk()) if small_disk else None
        # What is acknowledged must survive the death of the server, so this one commits as in production.
        postgres = PostgresServer(fsync=True, settings=POSTGRES_SETTINGS, room=room.path if room else None)
        stack.enter_context(postgres)
        redis = stack.enter_context(RedisServer())
        settings: dict[str, Setting] = {
            "database_url": postgres.create_database(),
            "broker_url": redis.url,
            "web_processes": RECEIVERS,
            "lease_seconds": LEASE_SECONDS,
            "call_deadline_seconds": CALL_SECONDS,
        }
        installation = stack.enter_context(Installation(folder, credentials, simulator.url, settings))
        running = Town(Ground(folder, simulator, postgres, redis, room, installation))
        yield running.open()
