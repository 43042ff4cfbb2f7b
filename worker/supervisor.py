"""Respawns what dies. A Celery worker may exit when its broker does, and a receiver must not stay down for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from worker.clock import monotonic
from worker.counting import CountingFolder

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between a death and the next start. A worker must be back within 10 seconds of a broker that is back."""

STEADY_SECONDS = 10.0
"""A child that lived so long starts again at once; one that dies sooner waits twice as long each time."""

POLL = 0.05


@dataclass(slots=True)
class _Child:
    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = FIRST_PAUSE
    starts: int = field(default=0)


class Supervisor:
    """Keeps the named commands running until it gets SIGTERM or SIGINT, which it passes on.

    A command that ends is started again whatever it ended with: what it complained of may have been mended.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        grace_seconds: float,
        pass_fds: Sequence[int] = (),
        counting: CountingFolder | None = None,
    ) -> None:
        self._grace = grace_seconds
        self._pass_fds = tuple(pass_fds)
        self._counting = counting
        self._children = [_Child(name, list(command)) for name, command in commands.items()]
        self._stopping = False

    def run(self) -> int:
        """Run until told to stop. Returns 0 when all children ended by themselves, 1 when one had to be killed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stopping:
            for child in self._children:
                self._look_after(child)
            time.sleep(POLL)
        return self._end()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _look_after(self, child: _Child) -> None:
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            self._bury(child, code)
        elif monotonic() >= child.start_at:
            environ = self._counting.environment(child.name) if self._counting is not None else None
            child.process = subprocess.Popen(
                child.command, pass_fds=self._pass_fds, start_new_session=True, env=environ
            )
            child.started_at = monotonic()
            child.starts += 1
            log.info("child_started", child=child.name, pid=child.process.pid, starts=child.starts)

    def _bury(self, child: _Child, code: int) -> None:
        lived = monotonic() - child.started_at
        child.pause = FIRST_PAUSE if lived >= STEADY_SECONDS else min(child.pause * 2, LONGEST_PAUSE)
        child.start_at = monotonic() + child.pause
        child.process = None
        if self._counting is not None:
            self._counting.bury(child.name)
        log.warning("child_died", child=child.name, code=code, lived_seconds=round(lived, 1), next_in=child.pause)

    def _end(self) -> int:
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.terminate()
        ends = monotonic() + self._grace
        while monotonic() < ends and any(process.poll() is None for process in alive):
            time.sleep(POLL)
        killed = [process for process in alive if process.poll() is None]
        for process in killed:
            log.error("child_killed", pid=process.pid, after_seconds=self._grace)
            process.kill()
            process.wait()
        return 1 if killed else 0


def python_commands(name: str, count: int, module: str, *arguments: str) -> dict[str, list[str]]:
    """`count` commands, `name-1` and so on, that run a module of ours with this Python, below this process."""
    command = [sys.executable, "-m", module, *arguments, str(os.getpid())]
    return {f"{name}-{number}": command for number in range(1, count + 1)}
