"""What processes cost: processor time and memory of a tree of them, as the kernel counts."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOOK_SECONDS = 0.25


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; nothing if it is gone."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def cpu_seconds(*pids: int) -> float:
    """Processor time that these processes and all below them have used, those included that have ended meanwhile."""
    total = 0.0
    for process in (process for pid in pids for process in tree(pid)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def precise_cpu_seconds(pid: int) -> float:
    """Processor time of one process's living threads as Linux's scheduler counts it, in nanoseconds; elsewhere as
    `cpu_seconds`, which counts in hundredths of a second."""
    try:
        threads = [look.read_text("ascii").split() for look in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        threads = []
    return sum(int(ran) for ran, *_ in threads) / 1e9 if threads else cpu_seconds(pid)


def memory_bytes(pids: Sequence[int]) -> int:
    """Memory that belongs to these processes and all below them alone. Pages that they share count for none."""
    total = 0
    for process in (process for pid in pids for process in tree(pid)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total


def resident_bytes(pids: Sequence[int]) -> int:
    """Memory of these processes and all below them, as `ps` and most limits count it: shared pages count for each."""
    total = 0
    for process in (process for pid in pids for process in tree(pid)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


@contextmanager
def memory_watched(pids: Sequence[int]) -> Iterator[list[int]]:
    """A list that grows by one look at the memory four times a second."""
    looks = [memory_bytes(pids)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            looks.append(memory_bytes(pids))

    thread = threading.Thread(target=watch, name="memory-watch", daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()
