"""What is wrong at the providers all the time, and the hook that kills a worker between an answer and its writing."""

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import psutil
from flask import Response, after_this_request, request

from web.simulator.faults import Answer, FaultBoard, Faults
from web.simulator.records import Call
from web.simulator.world import PROVIDERS

NO_LIMIT = 1_000_000
USUAL = Faults(error_rate=0.05, slow_share=0.02, slow_latency=1.0, rate_limit_per_minute=NO_LIMIT)
"""Five in a hundred calls fail, two are slow. The limit is out of the way: 429s are dealt out one by one below."""

LATE_SHARE = 0.05
LATE_SECONDS = (0.5, 1.8)
"""So many answers are read by the provider at once and arrive late, below the deadline of a call. Meanwhile the record
changes, so what arrives is old: a system that believes it shows old results."""

TOO_MANY_SHARE = 0.01
TOO_MANY = Answer(429, b"{}", {"Retry-After": "1"})
"""A 429 stops the whole source, so one in a hundred is plenty; a second is enough to see that it is honoured."""


class Weather:
    """Sets the usual troubles, and lets faults add to them for a while."""

    def __init__(self, board: FaultBoard, workers: Callable[[], list[int]], seed: int) -> None:
        self._board = board
        self._workers = workers
        self._rng = random.Random(f"weather/{seed}")
        self._lock = threading.Lock()
        self._armed = 0
        self.killed = 0
        for provider in PROVIDERS:
            board.set(provider, USUAL)
        board.on_call = self._on_call

    def worsen(self, provider: str, faults: Faults) -> None:
        """These troubles on top of the usual ones."""
        usual = {name: getattr(USUAL, name) for name in ("error_rate", "slow_share", "slow_latency")}
        self._board.set(provider, replace(faults, rate_limit_per_minute=NO_LIMIT, **usual))

    def clear(self, provider: str) -> None:
        self._board.set(provider, USUAL)

    def arm(self) -> None:
        """Whoever makes one of the next calls that ask for a single record dies as soon as it is answered."""
        with self._lock:
            self._armed += 1

    def disarm(self) -> None:
        with self._lock:
            self._armed = 0

    def _on_call(self, call: Call) -> None:
        if call.external_id is None:
            return
        with self._lock:
            too_many = self._rng.random() < TOO_MANY_SHARE
            late = self._rng.uniform(*LATE_SECONDS) if self._rng.random() < LATE_SHARE else 0.0
            chosen = not too_many and self._armed > 0 and self._rng.random() < 0.5
            self._armed -= chosen
        if too_many:
            self._board.script(call.external_id, [TOO_MANY])
        if late:
            self._delay_answer(late)
        if chosen:
            self._kill_when_answered()

    def _delay_answer(self, seconds: float) -> None:
        @after_this_request
        def wait(response: Response) -> Response:
            # The document is made by now, so what is sent is the truth of so many seconds ago.
            self._board.sleep(seconds)
            return response

    def _kill_when_answered(self) -> None:
        # Looked up before the answer, because afterwards every millisecond would help the worker to write.
        caller = self._caller(int(request.environ["REMOTE_PORT"]))
        if caller is None:
            self.arm()
            return

        def kill() -> None:
            with suppress(ProcessLookupError):
                os.kill(caller, signal.SIGKILL)
                self.killed += 1

        @after_this_request
        def then_kill(response: Response) -> Response:
            # The server closes the response when its last byte has been handed to the system.
            response.call_on_close(kill)
            return response

    def _caller(self, port: int) -> int | None:
        for pid in self._workers():
            with suppress(psutil.Error):
                if any(port in c.laddr[1:2] for c in psutil.Process(pid).net_connections("tcp4")):
                    return pid
        return None
