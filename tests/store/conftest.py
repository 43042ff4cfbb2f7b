"""The behaviour suite of the store runs on every engine."""

import pytest

from tests.store import databases
from worker.store.engine import Database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    return databases.migrated_file(tmp_path_factory.mktemp("schema"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request, tmp_path, sqlite_template):
    if request.param == "sqlite":
        yield databases.sqlite_url(sqlite_template, tmp_path)
        return
    with databases.postgres_url(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def database(database_url):
    handle = Database(database_url, pool_size=20)
    yield handle
    handle.dispose()
