"""A running simulator, somebody who calls it, and somebody who receives what it sends."""

import httpx
import pytest

from tests.simulator.support import CREDENTIALS, Caller, receiving
from web.simulator.server import Simulator


@pytest.fixture
def simulator():
    with Simulator(CREDENTIALS, seed=7) as running:
        yield running


@pytest.fixture
def world(simulator):
    return simulator.world


@pytest.fixture
def caller(simulator):
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield Caller(simulator, client)


@pytest.fixture
def receiver():
    with receiving() as target:
        yield target
