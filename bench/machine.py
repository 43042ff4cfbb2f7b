"""The line about the machine that stands over every table: figures without it say nothing."""

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.baseline import server_name
from tests.support.services import Postgres, RedisServer, redis_client

ROOT = Path(__file__).parents[1]
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when something was measured."""

    cpu: str
    cores: int
    kernel: str
    python: str
    postgresql: str
    redis: str
    filesystem: str
    naive_server: str
    load_average: float
    date: str
    commit: str

    def line(self) -> str:
        """Everything, for people."""
        parts = [
            f"{self.cpu}, {self.cores} cores, Linux {self.kernel}, Python {self.python}",
            f"PostgreSQL {self.postgresql} on {self.filesystem}, Redis {self.redis}",
            f"the naive baseline on {self.naive_server}",
            f"load average {self.load_average:.2f} at the start",
            f"{self.date}, commit {self.commit}",
        ]
        return "; ".join(parts)

    def as_json(self) -> dict[str, str | int | float]:
        """Everything, for programs."""
        return asdict(self)


def look(postgres: Postgres | None, redis: RedisServer | None, data: Path | None) -> Machine:
    """What this machine is now. `data` is where the database's files lie."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        postgresql=str(postgres.execute("SHOW server_version")[0][0]) if postgres else UNKNOWN,
        redis=_redis_version(redis.url) if redis else UNKNOWN,
        filesystem=_filesystem(data) if data else UNKNOWN,
        naive_server=server_name(),
        load_average=os.getloadavg()[0],
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _redis_version(url: str) -> str:
    with redis_client(url) as client:
        return str(client.info("server")["redis_version"])


def _filesystem(data: Path) -> str:
    """The type of the file system below a path: fsync means little on one in memory."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    path = data.resolve()
    below = [(place, kind) for _, place, kind, *_ in mounts if path.is_relative_to(place)]
    return max(below, key=lambda found: len(found[0]), default=("", UNKNOWN))[1]


def _commit() -> str:
    """The commit, with a plus sign if files are changed."""
    try:
        shown = _git("rev-parse", "--short", "HEAD")
        return shown + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
