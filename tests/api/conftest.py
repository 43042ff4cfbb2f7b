"""The API on a real database, as Flask serves it: each test runs on SQLite and on PostgreSQL."""

import pytest

from tests.store.conftest import database, database_url, migrated_postgres_url, sqlite_template
from tests.support.results import TOKEN, settings
from web.app import create_app
from worker.runtime import Runtime

__all__ = ["database", "database_url", "migrated_postgres_url", "sqlite_template"]


@pytest.fixture
def rung():
    """The sources that were nudged."""
    return []


@pytest.fixture
def runtime(database_url, rung):
    """The application, with nudges that ring in `rung` once the nudger is stopped."""
    made = Runtime(settings(database_url), ring_with=rung.append)
    yield made
    made.tokens.close()
    made.database.dispose()


@pytest.fixture
def api(runtime):
    """A client with a token."""
    return _with_token(runtime)


@pytest.fixture
def detached():
    """A client with a token, of an API without a database: what it answers was decided before anybody asked one."""
    return _with_token(Runtime(settings("sqlite:////nonexistent/verisink.db")))


def _with_token(runtime):
    client = create_app(runtime).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client
