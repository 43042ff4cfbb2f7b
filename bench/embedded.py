"""Verisink as its one-command default: `verisink up` with SQLite and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.provider import NOBODY
from bench.stage import Stage
from bench.verisink import DEFAULTS, NO_LIMIT
from tests.support.processes import Installation

SETTINGS = {name: DEFAULTS[name] for name in ("lease_seconds", "call_deadline_seconds", "log_level")}


@contextmanager
def installed(stage: Stage, provider_url: str = NOBODY) -> Iterator[Installation]:
    """An installation that was never started. Its database is a file on the disk that the stage is on."""
    every_source = {"rate_limit_per_minute": NO_LIMIT}
    folder: Path = stage.folder("embedded")
    with Installation(folder, stage.credentials, provider_url, SETTINGS, every_source) as installation:
        yield installation
