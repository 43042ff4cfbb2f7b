"""What all scenarios stand on: one PostgreSQL that commits as in production, one Redis, and one set of secrets.

The servers start when they are first asked for, and are the same for every contender.
"""

import compileall
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.store.databases import migrate
from tests.support.processes import ROOT
from tests.support.services import PostgresServer, RedisServer
from web.simulator.credentials import Credentials

POSTGRES_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_connections": "300",
    # No checkpoint falls into a round: one would strike whichever contender is being measured.
    "max_wal_size": "16GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "1h",
    "autovacuum_naptime": "1min",
}
"""Otherwise PostgreSQL's own defaults, with fsync, synchronous_commit and full_page_writes on."""

USED_LOG = """
DO $$ BEGIN
    FOR _ IN 1..60 LOOP
        PERFORM pg_logical_emit_message(false, 'bench', '');
        PERFORM pg_switch_wal();
    END LOOP;
END $$
"""
"""A server that has run for a while writes into files of its log that were there before. A new one fills each with
zeros first, once or twice a second under load, and all who wait for a commit wait for that. 60 files are a gigabyte."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure. `seconds` is the length of one measurement of one contender."""

    rounds: int
    seconds: float
    quick: bool = False
    concurrency: int = 64
    """WORKER_CONCURRENCY of each worker process. Its default of 16 is for providers with narrow limits; here there are
    none, and what lands together is written together."""

    rows: int = 1_000_000
    """Deliveries in the larger database of the growth scenario: two gigabytes, and a minute to load."""


FULL = Effort(rounds=5, seconds=2.25)
"""Five rounds show a spread, and all scenarios together take less than a quarter of an hour."""

QUICK = Effort(rounds=1, seconds=0.5, quick=True, rows=20_000)
"""Enough to see that everything works, within two minutes; too little to be quoted."""

PROGRAMS = ("worker", "web", "migrations", "bench")
"""Packages whose modules are compiled before anything is measured, as pip does when it installs them. An environment in
which Python must not write would have each process that starts here compile them again."""


class Stage:
    """The servers of one run, and where its files lie."""

    def __init__(self, effort: Effort, folder: Path, stack: ExitStack) -> None:
        self.effort = effort
        self.credentials = Credentials.generate(4)
        self._folder, self._stack, self._made = folder, stack, 0

    @cached_property
    def postgres(self) -> PostgresServer:
        """Raises ServiceUnavailable."""
        server = self._stack.enter_context(PostgresServer(fsync=True, settings=POSTGRES_SETTINGS))
        server.execute(USED_LOG)
        server.execute("CHECKPOINT")
        return server

    @cached_property
    def redis(self) -> RedisServer:
        """Raises ServiceUnavailable. Its databases are numbered; each contender takes its own."""
        return self._stack.enter_context(RedisServer())

    def database(self) -> str:
        """The URL of a new database with Verisink's schema. Raises ServiceUnavailable."""
        return self.postgres.create_database(self.postgres.template("migrated", migrate))

    def redis_url(self, database: int) -> str:
        """The URL of one of Redis's databases."""
        return f"{self.redis.url.rpartition('/')[0]}/{database}"

    def folder(self, name: str) -> Path:
        """A new folder of this run."""
        self._made += 1
        made = self._folder / f"{self._made:03d}-{name}"
        made.mkdir(parents=True)
        return made


@contextmanager
def open_stage(effort: Effort) -> Iterator[Stage]:
    """A stage whose servers and files are gone afterwards."""
    for package in PROGRAMS:
        # Where it cannot write, processes start a little later, and that is all.
        compileall.compile_dir(ROOT / package, quiet=2)
    with tempfile.TemporaryDirectory(prefix="verisink-bench-") as folder, ExitStack() as stack:
        yield Stage(effort, Path(folder), stack)
