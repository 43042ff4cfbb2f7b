"""Lets the faults of a seeded schedule happen while traffic goes on.

Its dice are its own: the same seed gives the same schedule whatever the traffic does.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil
import psycopg
import redis

from tests.chaos.faults import Fault, Scene

MISSED = (psycopg.Error, redis.RedisError, psutil.Error, ProcessLookupError)
"""What a fault raises that finds its victim down already, by a fault of another lane."""

FIRST, LAST = 0.05, 0.9
"""The shares of the traffic between which faults begin."""

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault, when this share of the traffic has been sent."""

    at: float
    fault: Fault


def schedule(seed: int, faults: Sequence[Fault], times: int) -> Mapping[str, Sequence[Injection]]:
    """Each fault so many times, long ones once, in an order and at moments that depend on the seed alone; by lane."""
    lanes: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        lanes[fault.lane] += [fault] * (1 if fault.long else times)
    planned = {}
    for lane, chosen in lanes.items():
        rng = random.Random(f"faults/{seed}/{lane}")
        rng.shuffle(chosen)
        moments = sorted(rng.uniform(FIRST, LAST) for _ in chosen)
        planned[lane] = [Injection(at, fault) for at, fault in zip(moments, chosen, strict=True)]
    return planned


class Nemesis:
    """A thread for each lane. `progress` says which share of the traffic has been sent."""

    def __init__(
        self,
        scene: Callable[[random.Random], Scene],
        planned: Mapping[str, Sequence[Injection]],
        progress: Callable[[], float],
        seed: int,
    ) -> None:
        self._scene, self._planned, self._progress, self._seed = scene, planned, progress, seed
        self.done: Counter[str] = Counter()
        self.missed: list[str] = []
        self.broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(lane,), name=f"nemesis-{lane}") for lane in planned]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until every fault has been and gone. Raises what a fault raised that it should not."""
        for thread in self._threads:
            thread.join()
        if self.broken:
            raise self.broken[0]

    def _run(self, lane: str) -> None:
        for number, injection in enumerate(self._planned[lane]):
            while self._progress() < injection.at:
                time.sleep(POLL_SECONDS)
            try:
                self._inject(injection.fault, random.Random(f"injection/{self._seed}/{lane}/{number}"))
            except BaseException as error:  # noqa: BLE001 - a thread's error is nobody's until it is joined
                self.broken.append(error)
                return

    def _inject(self, fault: Fault, rng: random.Random) -> None:
        try:
            self.done[fault.name] += fault.inject(self._scene(rng))
        except MISSED as error:
            self.missed.append(f"{fault.name}: {type(error).__name__}")
