"""The provider in every scenario that retrieves: the simulator's fast mode, as a process of its own."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from bench.children import started
from bench.stage import Stage
from tests.support.processes import Child

NOBODY = "http://127.0.0.1:9"
"""A provider for scenarios in which nothing is retrieved: the port of `discard`, where nobody listens."""


@dataclass(frozen=True, slots=True)
class FastProvider:
    """A running one."""

    url: str
    child: Child

    def stats(self) -> dict[str, float]:
        """Calls since the last reset, and how many of them at once at most."""
        found: dict[str, float] = httpx.get(f"{self.url}/fast/stats", trust_env=False).json()
        return found

    def reset(self) -> None:
        """Count from now on."""
        httpx.post(f"{self.url}/fast/reset", trust_env=False)


@contextmanager
def fast_provider(stage: Stage, latency: float = 0.0) -> Iterator[FastProvider]:
    """All four providers, answering after `latency` seconds."""
    command = [sys.executable, "-m", "web.main", "simulate", "--fast", "--port", "0", "--json"]
    with started("provider", [*command, "--latency", str(latency)], stage.folder("provider"), {}) as child:
        line = child.ready(lambda: child.output.partition("\n")[0])
        yield FastProvider(json.loads(line)["url"], child)
