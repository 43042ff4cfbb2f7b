"""Verisink as its users run it: child processes with a settings file, logs kept for tests that fail, and a sure end.

Nothing here looks into Verisink. Every process that was started here, or by one that was, carries a mark in its
environment, and is gone when its `Installation` is closed.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import psutil
import pytest

from tests.support.services import free_port
from web.simulator.credentials import Credentials, Setting, settings_for, to_toml
from worker.settings import child_environment

ROOT = Path(__file__).parents[2]
MARK = "FLOW_TEST_RUN"
API_TOKEN = "flow-token-7d1c0a52"
START_SECONDS = 30.0
"""A start takes one or two seconds; a machine with two busy cores needs room."""

STOP_SECONDS = 30.0
PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.02
LOG_SHOWN = 6000

DEFAULTS: Mapping[str, Setting] = {
    "host": "127.0.0.1",
    "log_format": "json",
    "api_tokens": [f"flow:{API_TOKEN}"],
    # Tests ask many times a second whether something has come.
    # A killed worker's work is due again after a lease, and no test should wait a minute for that.
    "lease_seconds": 4,
    "call_deadline_seconds": 2.0,
}
NOT_IN_EARLIER_RELEASES: Mapping[str, str] = {"VERISINK_API_RATE_LIMIT_PER_MINUTE": "0"}
"""In the environment, because earlier releases are run with the same file, and refuse what they do not know."""

EVERY_SOURCE: Mapping[str, Setting] = {"rate_limit_per_minute": 100_000}

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], what: str, seconds: float = PATIENCE_SECONDS) -> Found:
    """What `look` returns, once that is true. Fails, naming `what`, when the time is over."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


class Child:
    """One process and what it wrote. Its standard error is the log."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str], cwd: Path = ROOT
    ) -> None:
        self.name = name
        self._output, self._log = folder / f"{name}.out", folder / f"{name}.log"
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command],
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                # Ctrl-C in the terminal is for pytest, which ends this process in its own way.
                start_new_session=True,
            )
        self.url = ""
        self._shown = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """What it printed to standard output so far."""
        return self._output.read_text("utf-8", "replace")

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text("utf-8", "replace")

    def logged(self, event: str, **fields: object) -> list[dict[str, object]]:
        """The log lines of this event with these fields."""
        found = []
        for line in self.log.splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == event and fields.items() <= entry.items():
                    found.append(entry)
        return found

    def alive(self) -> bool:
        return self.process.poll() is None

    def ready(self, look: Callable[[], Found | None], what: str = "ready") -> Found:
        """What `look` returns once it is true. Fails at once, with the log, if the process ends before."""

        def look_closely() -> Found | None:
            found = look()
            if not found and not self.alive():
                pytest.fail(f"{self.name} ended with {self.process.returncode}; its log ends:\n{self.log[-LOG_SHOWN:]}")
            return found

        return eventually(look_closely, f"{self.name}: {what}", START_SECONDS)

    def children(self) -> dict[int, psutil.Process]:
        """The processes below this one, by their ids."""
        with suppress(psutil.NoSuchProcess):
            return {child.pid: child for child in psutil.Process(self.pid).children(recursive=True)}
        return {}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit status."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status. Fails if it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return pytest.fail(f"{self.name} did not end within {seconds:.0f} s")

    def kill(self) -> None:
        """End it as a crash or the kernel would: nothing in it can react."""
        self.process.kill()
        self.process.wait()

    def show(self) -> None:
        """Write what is new in the log to where pytest shows it below a test that failed."""
        new = self.log[self._shown :]
        self._shown += len(new)
        if new:
            sys.stderr.write(f"--- log of {self.name} (pid {self.pid}, status {self.process.poll()}):\n")
            sys.stderr.write(new[-LOG_SHOWN:] + "\n")


class Installation:
    """A folder with a `verisink.toml`, and the processes that run with it. Leaving it ends them all."""

    def __init__(
        self,
        folder: Path,
        credentials: Credentials,
        provider_url: str,
        settings: Mapping[str, Setting] | None = None,
        every_source: Mapping[str, Setting] | None = None,
    ) -> None:
        settings = settings or {}
        self.folder = folder
        self.children: list[Child] = []
        self._mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self.database_url = str(settings.get("database_url", f"sqlite:///{folder / 'verisink.db'}"))
        self.port = int(str(settings.get("port", free_port())))
        values = {**DEFAULTS, "database_url": self.database_url, "port": self.port, **settings}
        tables = settings_for(credentials, provider_url, **values)
        blocks = tables["sources"]
        assert isinstance(blocks, dict)
        for block in blocks.values():
            block.update({**EVERY_SOURCE, **(every_source or {})})
        self.config.write_text(to_toml(tables), "utf-8")

    @property
    def config(self) -> Path:
        return self.folder / "verisink.toml"

    @property
    def environ(self) -> dict[str, str]:
        return {**child_environment(self.config), MARK: self._mark}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *arguments: str, **environ: str) -> Child:
        """`verisink <arguments>`, started and not waited for."""
        command = [sys.executable, "-m", "web.main", *arguments]
        return self.start_program(arguments[0], command, **{**NOT_IN_EARLIER_RELEASES, **environ})

    def start_program(self, name: str, command: Sequence[str], **environ: str) -> Child:
        """Another program with the same settings."""
        return self.start_program_in(ROOT, name, command, **environ)

    def start_program_in(self, folder: Path, name: str, command: Sequence[str], **environ: str) -> Child:
        """The same in another folder, in which a Python that is told `-m` looks for its modules first."""
        child = Child(f"{name}-{len(self.children)}", command, self.folder, {**self.environ, **environ}, folder)
        self.children.append(child)
        return child

    def up(self, *options: str, **environ: str) -> Child:
        """`verisink up`, once it says that it is ready."""
        child = self.start("up", "--json", *options, **environ)
        ready = child.ready(lambda: child.output.partition("\n")[0])
        child.url = json.loads(ready)["url"]
        return child

    def web(self, **environ: str) -> Child:
        """`verisink web`, once it can do its work."""
        child = self.start("web", **environ)
        child.url = self.url
        child.ready(lambda: answers(child.url + "/readyz"))
        return child

    def worker(self, processes: int = 1) -> Child:
        """`verisink worker`, once its processes are there."""
        child = self.start("worker")
        child.ready(lambda: len(child.children()) == processes)
        return child

    def run(self, *arguments: str, **environ: str) -> Child:
        """`verisink <arguments>`, from its start to its end."""
        child = self.start(*arguments, **environ)
        child.wait()
        return child

    def show(self) -> None:
        for child in self.children:
            child.show()

    def survivors(self) -> list[psutil.Process]:
        """Every process that was started here or by one that was, whoever its parent is now."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self._mark]

    def close(self) -> None:
        """End whatever still runs."""
        while left := self.survivors():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            for child in self.children:
                child.process.wait()
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def answers(url: str) -> bool:
    """Whether this URL is answered with 200 now."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    if process.pid == os.getpid():
        return None
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
