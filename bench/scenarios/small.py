"""How small the default is: its start, its memory and processor time when nothing happens, and how soon it answers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.children import end
from bench.embedded import installed
from bench.processes import cpu_seconds, precise_cpu_seconds, resident_bytes
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, value
from bench.stage import Stage
from bench.statistics import spread

SETTLE_SECONDS = 2.0
IDLE_SECONDS = 8.0
"""Some sweeps: they come once a second, and are what an idle process does."""

HELPS, QUICK_HELPS = 5, 1


@contextmanager
def open_small(stage: Stage) -> Iterator[Contenders]:
    """`verisink up` from an empty folder each time, with four sources; and `verisink --help`."""
    idle_seconds = stage.effort.seconds if stage.effort.quick else IDLE_SECONDS

    def up_round() -> Sample:
        with installed(stage) as installation:
            began = time.monotonic()
            child = installation.up()
            ready, start_cpu = time.monotonic() - began, cpu_seconds(child.pid)
            time.sleep(SETTLE_SECONDS)
            before, idle_began = precise_cpu_seconds(child.pid), time.monotonic()
            time.sleep(idle_seconds)
            idle = (precise_cpu_seconds(child.pid) - before) / (time.monotonic() - idle_began)
            memory = resident_bytes([child.pid])
            end(child)
        return {
            "ready_s": ready,
            "start_cpu_s": start_cpu,
            "idle_cpu_percent": 100 * idle,
            "idle_memory_mb": memory / 1e6,
        }

    helps = QUICK_HELPS if stage.effort.quick else HELPS
    yield {"up": up_round, "help": partial(help_round, helps)}


def help_round(calls: int) -> Sample:
    """The middle of some calls: the first one reads files from the disk."""
    return {"wall_s": spread([_help_seconds() for _ in range(calls)]).median}


def _help_seconds() -> float:
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-m", "web.main", "--help"], capture_output=True, text=True, check=False)
    if run.returncode != 0 or "Commands:" not in run.stdout:
        raise Broken(f"--help failed: {run.stderr[-500:]}")
    return time.monotonic() - began


SCENARIO = Scenario(
    name="small",
    measures="`verisink up` with SQLite and four sources from an empty folder, then left alone; and `verisink --help`.",
    figures=(
        value("ready after, s", ("up", "ready_s"), Bar(2, at_least=False)),
        value("idle memory, MB", ("up", "idle_memory_mb"), Bar(120, at_least=False)),
        value("idle processor time, % of a core", ("up", "idle_cpu_percent"), Bar(1, at_least=False)),
        value("--help, s", ("help", "wall_s"), Bar(0.3, at_least=False)),
    ),
    open=open_small,
)
