"""A simulator, and Verisinks that point at it. Logs are shown below a test that failed, and nothing outlives a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import Installation
from web.simulator.credentials import Credentials, Setting
from web.simulator.faults import Faults
from web.simulator.server import Simulator

NO_LIMIT = 1_000_000

Install = Callable[..., Installation]


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    return Credentials.generate(5)


@pytest.fixture
def simulator(credentials: Credentials) -> Iterator[Simulator]:
    with Simulator(credentials, seed=11) as running:
        running.faults.set("persona", Faults(rate_limit_per_minute=NO_LIMIT))
        yield running


@pytest.fixture
def install(simulator: Simulator, tmp_path: Path) -> Iterator[Install]:
    """Makes installations, each in a folder of its own."""
    with ExitStack() as stack:

        def make(name: str = "verisink", **settings: Setting) -> Installation:
            made = Installation(tmp_path / name, simulator.credentials, simulator.url, settings)
            stack.enter_context(made)
            stack.callback(made.show)
            return made

        yield make
