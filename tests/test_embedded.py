"""The embedded worker takes tasks, and takes them again after it was restarted, even if it could not be stopped."""

import queue
import threading
from contextlib import suppress

import pytest

from tests.pipeline.outlets import wait_until
from worker import embedded, tasks
from worker.celery_app import DRAIN_TASK, make_app, ring
from worker.embedded import EmbeddedWorker
from worker.settings import Settings

WAIT = 15.0


class Works:
    """An embedded worker, and what it was told to drain. A source named `stuck` holds a thread until it is freed."""

    def __init__(self) -> None:
        self.drained: queue.Queue[str] = queue.Queue()
        self.freed = threading.Event()
        self.app = make_app(Settings(), "worker")
        tasks.register(self.app, self.drain)
        self.worker = EmbeddedWorker(self.app, threads=2)

    def drain(self, source: str) -> None:
        self.drained.put(source)
        if source == "stuck":
            self.freed.wait(2 * WAIT)

    def rings(self, source: str) -> bool:
        """Whether it hears of a source, rung for every second as the sweep does: a controller that is left behind may
        have taken a nudge with it, and one that was not acknowledged is handed out again."""
        for _ in range(int(WAIT)):
            ring(self.app, source)
            with suppress(queue.Empty):
                while True:
                    if self.drained.get(timeout=1) == source:
                        return True
        return False


def embedded_threads() -> list[threading.Thread]:
    """The threads of controllers, that of one which was left behind included."""
    return [thread for thread in threading.enumerate() if thread.name == "celery-embedded"]


@pytest.fixture(scope="module")
def works():
    """One for all: there is at most one embedded worker in a process."""
    made = Works()
    made.worker.start()
    yield made
    made.freed.set()
    made.worker.stop(WAIT)


def test_every_application_of_a_process_calls_what_it_was_given():
    heard: tuple[list[str], list[str]] = ([], [])
    apps = [make_app(Settings(), "publisher") for _ in heard]
    for app, sources in zip(apps, heard, strict=True):
        tasks.register(app, sources.append)

    for app in apps:
        app.finalize()
        app.tasks[DRAIN_TASK](f"a source {apps.index(app)}")

    assert heard == (["a source 0"], ["a source 1"])


def test_it_takes_tasks_and_takes_them_again_after_a_restart(works):
    assert works.rings("first")

    works.worker.restart("a test asked for it")

    assert works.worker.alive()
    assert works.rings("second")


def test_one_that_cannot_be_stopped_is_left_behind(works, monkeypatch):
    monkeypatch.setattr(embedded, "RESTART_SECONDS", 0.5)
    assert works.rings("stuck")

    works.worker.restart("a test asked for it")

    assert works.rings("second")
    works.freed.set()
    assert works.rings("third")
    wait_until(lambda: len(embedded_threads()) == 1)
    assert works.worker.alive(), "the end of the one that was left behind is not the end of its successor"
