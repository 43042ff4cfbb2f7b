"""The pipeline on real databases, against the providers' simulator."""

import pytest

from tests.pipeline.plant import CREDENTIALS, Plant
from tests.store.conftest import (
    database,
    database_url,
    migrated_postgres_url,
    postgres_database,
    sqlite_database,
    sqlite_template,
)
from web.simulator.server import Simulator

__all__ = [
    "database",
    "database_url",
    "migrated_postgres_url",
    "postgres_database",
    "sqlite_database",
    "sqlite_template",
]


@pytest.fixture
def simulator():
    with Simulator(CREDENTIALS, seed=5) as running:
        yield running


@pytest.fixture
def plant(simulator, sqlite_database):
    with Plant(simulator, sqlite_database) as made:
        yield made


@pytest.fixture
def anywhere(simulator, database):
    """The same on every engine."""
    with Plant(simulator, database) as made:
        yield made
