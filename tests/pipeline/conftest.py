"""The pipeline on real databases, against the providers' simulator."""

import random

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


@pytest.fixture(autouse=True)
def even_jitter(monkeypatch):
    """A jitter near zero would make a retry due within the same drain, and tests could not say what one drain does."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


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
