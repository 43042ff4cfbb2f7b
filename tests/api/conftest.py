"""The API on a real database, as Flask serves it: each test runs on SQLite and on PostgreSQL."""

import pytest

from tests.support.results import TOKEN, database, database_url, settings, sqlite_template
from web.app import create_app
from worker.runtime import Runtime

__all__ = ["database", "database_url", "sqlite_template"]


@pytest.fixture
def rung():
    """The sources that were nudged."""
    return []


@pytest.fixture
def runtime(database_url, rung):
    """The application, with nudges that ring in `rung` once the nudger is stopped."""
    made = Runtime(settings(database_url), ring_with=rung.append)
    yield made
    made.database.dispose()


@pytest.fixture
def anonymous(runtime):
    """A client without a token."""
    return create_app(runtime).test_client()


@pytest.fixture
def api(runtime):
    """A client with a token."""
    client = create_app(runtime).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client
