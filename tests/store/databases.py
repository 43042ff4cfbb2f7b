"""Fresh databases with the migrated schema: copies of one that was migrated once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support.services import Postgres
from worker.store import schema
from worker.store.engine import Database


def migrate(url: str) -> None:
    database = Database(url)
    schema.migrate(database)
    database.dispose()


@cache
def migrated_file(folder: Path) -> Path:
    """A SQLite file with the schema, made once for each folder."""
    path = folder / "template.db"
    migrate(f"sqlite:///{path}")
    return path


def sqlite_url(template: Path, folder: Path) -> str:
    """The URL of a fresh copy in `folder`."""
    shutil.copyfile(template, folder / "verisink.db")
    return f"sqlite:///{folder / 'verisink.db'}"


@contextmanager
def postgres_url(server: Postgres) -> Iterator[str]:
    """The URL of a fresh database, dropped afterwards."""
    url = server.create_database(server.template("schema", migrate))
    yield url
    server.drop_database(url)
