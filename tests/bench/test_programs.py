"""The parts of the benchmarks that look at other programs: pgbench, workers that drain, and what processes cost."""

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import chain, repeat

import pytest

from bench.children import started
from bench.drain import drain
from bench.pgbench import Pgbench
from bench.processes import cpu_seconds, memory_bytes, memory_watched
from bench.protocol import Broken, Unavailable
from tests.conftest import unavailable
from tests.support.processes import eventually

SLEEP = "import time; time.sleep(120)"


@contextmanager
def running(folder, code):
    with started("worker", [sys.executable, "-c", code], folder, {}) as child:
        yield child


@pytest.mark.postgres
def test_pgbench_inserts_what_it_counts(postgres_server, tmp_path):
    try:
        reference = Pgbench(postgres_server, tmp_path)
    except Unavailable as missing:
        unavailable(missing)
        raise

    sample = reference.round(1.0)

    assert sample["rate_per_s"] > 0
    assert sample["mean_ms"] > 0
    (tmp_path / "insert.sql").write_text("INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(Broken, match="pgbench failed"):
        reference.round(1.0)


def test_a_drain_ends_with_its_last_piece(tmp_path):
    counts = chain([0, 10, 30, 70], repeat(100))
    with running(tmp_path, SLEEP) as worker:
        sample = drain(100, lambda: next(counts), worker, os.getpid())

    assert sample["items"] == 70
    assert sample["rate_per_s"] > 0


def test_a_drain_that_makes_too_much_is_broken(tmp_path):
    counts = chain([0, 50], repeat(101))
    with running(tmp_path, SLEEP) as worker, pytest.raises(Broken, match="made 101 results of 100"):
        drain(100, lambda: next(counts), worker, os.getpid())


def test_a_worker_that_dies_is_broken(tmp_path):
    with running(tmp_path, "raise SystemExit('no database')") as worker:
        worker.wait()
        with pytest.raises(Broken, match=r"died at 0 of 100: no database"):
            drain(100, lambda: 0, worker, os.getpid())


def test_a_program_ends_with_all_below_it(tmp_path):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    with running(tmp_path, code) as parent:
        [below] = eventually(lambda: list(parent.children().values()), "the program below")

    assert not parent.alive()
    assert not below.is_running()


def test_what_processes_cost_includes_those_below_and_those_that_ended():
    code = "sum(range(3_000_000))"
    before = cpu_seconds(os.getpid())

    subprocess.run([sys.executable, "-c", code], check=True)

    assert cpu_seconds(os.getpid()) > before
    assert cpu_seconds(2**22 + 1) == 0.0


def test_memory_is_watched_while_the_block_runs():
    with memory_watched([os.getpid()]) as looks:
        eventually(lambda: len(looks) >= 3, "three looks")

    seen = len(looks)
    assert all(look > 1_000_000 for look in looks)
    assert memory_bytes([os.getpid()]) > 1_000_000
    assert len(looks) == seen
