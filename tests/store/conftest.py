"""The behaviour suite of the store runs on every engine."""

import pytest

from tests.store import databases
from worker.store.engine import Database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    return databases.migrated_file(tmp_path_factory.mktemp("schema"))


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server):
    url = postgres_server.create_database()
    databases.migrate(url)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request, tmp_path, sqlite_template):
    """The URL of a database with the schema and without rows."""
    if request.param == "sqlite":
        return databases.sqlite_url(sqlite_template, tmp_path)
    url = request.getfixturevalue("migrated_postgres_url")
    databases.clear(request.getfixturevalue("postgres_server"), url)
    return url


@pytest.fixture
def database(database_url):
    handle = Database(database_url, pool_size=20)
    yield handle
    handle.dispose()


@pytest.fixture
def sqlite_database(tmp_path, sqlite_template):
    """For the few things that only SQLite does."""
    handle = Database(databases.sqlite_url(sqlite_template, tmp_path))
    yield handle
    handle.dispose()


@pytest.fixture
def postgres_database(postgres_server, migrated_postgres_url):
    """For the few things that only PostgreSQL does."""
    databases.clear(postgres_server, migrated_postgres_url)
    handle = Database(migrated_postgres_url)
    yield handle
    handle.dispose()
