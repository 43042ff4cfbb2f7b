"""What is counted is exact: from many threads, from several processes, and after one of them was killed."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from tests.support.processes import ROOT
from tests.support.results import settings
from worker import metrics
from worker.clock import utc_now
from worker.counting import LOCK, PREFIX, CountingFolder, counting_folder
from worker.exposition import Exposition
from worker.settings import counting_place

COUNT = """
import sys, threading, os, signal
from worker import metrics
def count():
    for _ in range(500):
        metrics.counter(metrics.ATTEMPTS, "persona", "stored", "").inc()
        metrics.ACK_SECONDS.observe(0.003)
threads = [threading.Thread(target=count) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
metrics.SPOOL_DELIVERIES.set(int(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A process that counts 4000 of each in eight threads, and is killed at once."""

ATTEMPTS = ("verisink_attempts_total", {"source": "persona", "outcome": "stored", "error": ""})


def value(registry, name, labels=None):
    return registry.get_sample_value(name, labels or {})


def together(folder):
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder.path))
    return registry


def run(folder, name, spooled=0):
    command = [sys.executable, "-c", COUNT, str(spooled)]
    ended = subprocess.run(command, env=folder.environment(name), cwd=ROOT, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with counting_folder(wanted=True) as made:
        yield made


def test_many_threads_lose_no_count():
    counter = metrics.counter(metrics.PRUNED_ROWS, "tests")
    before = counter._value.get()

    def count():
        for _ in range(2000):
            metrics.counter(metrics.PRUNED_ROWS, "tests").inc()

    threads = [threading.Thread(target=count) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counter._value.get() - before == 32_000


def test_processes_count_together_and_go_on_after_a_kill(folder):
    """A successor neither begins at zero nor counts what was counted, and leaves no file behind for each death."""
    run(folder, "worker-1")
    run(folder, "web-1")
    files = set(folder.path.iterdir())
    run(folder, "worker-1")

    found = together(folder)
    assert value(found, *ATTEMPTS) == 12_000
    assert value(found, "verisink_ack_seconds_count") == 12_000
    assert value(found, "verisink_ack_seconds_bucket", {"le": "0.005"}) == 12_000
    assert value(found, "verisink_ack_seconds_bucket", {"le": "0.002"}) == 0
    assert set(folder.path.iterdir()) == files


def test_a_dead_process_has_counted_but_says_nothing_of_now(folder):
    run(folder, "web-1", spooled=7)
    run(folder, "web-2", spooled=5)
    assert value(together(folder), "verisink_spool_deliveries") == 7

    folder.bury("web-1")

    assert value(together(folder), "verisink_spool_deliveries") == 5
    assert value(together(folder), *ATTEMPTS) == 8000


def test_a_scrape_meets_a_file_that_is_being_made(folder, tmp_path):
    """The library raises what no scrape may answer with, if it looks at the wrong microsecond."""
    run(folder, "web-1")
    made = folder.path / "counter_web-2.db"
    made.touch()
    shown = Exposition(settings(f"sqlite:///{tmp_path / 'none.db'}"), folder=folder.path)
    threading.Timer(0.03, made.unlink).start()

    assert value(shown.registry, *ATTEMPTS) == 4000
    shown.close()


def test_the_folder_is_gone_afterwards_and_so_is_what_the_killed_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, young, foreign = (tmp_path / name for name in (f"{PREFIX}left", f"{PREFIX}young", "other"))
    for path in (left, young, foreign):
        path.mkdir()
        (path / LOCK).touch()
    for path in (left, foreign):
        os.utime(path, (1, 1))

    with counting_folder(wanted=True) as one:
        assert isinstance(one, CountingFolder)
        os.utime(one.path, (1, 1))
        with counting_folder(wanted=True) as other:
            # However old it looks, it is locked by somebody who lives.
            assert isinstance(other, CountingFolder)
            assert one.path.exists()
            assert other.path.exists()

    assert set(tmp_path.iterdir()) == {young, foreign}


def test_without_a_place_each_process_counts_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    with counting_folder(wanted=True) as none:
        assert none is None
    with counting_folder(wanted=False) as unwanted:
        assert unwanted is None
    assert counting_place() == (None, None)


def test_a_provider_s_clock_that_is_ahead_counts_as_now():
    def seen():
        labels = {"source": "gu1-ahead"}
        names = ("provider_clock_ahead_total", "freshness_told_seconds_count", "freshness_told_seconds_sum")
        return [value(REGISTRY, f"verisink_{name}", labels) for name in names]

    metrics.note_told("gu1-ahead", utc_now() + timedelta(hours=1))
    assert seen() == [1, 1, 0]

    metrics.note_told("gu1-ahead", utc_now() - timedelta(minutes=1))
    assert seen()[:2] == [1, 2]
    assert 60 <= seen()[2] < 90


def test_the_age_of_delivered_events_is_never_negative():
    metrics.note_delivered("sink-ahead", [utc_now() + timedelta(seconds=3), utc_now() - timedelta(seconds=3)])

    labels = {"sink": "sink-ahead"}
    assert value(REGISTRY, "verisink_freshness_delivered_seconds_count", labels) == 2
    assert 3 <= value(REGISTRY, "verisink_freshness_delivered_seconds_sum", labels) < 30
