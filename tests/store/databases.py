"""Databases with the migrated schema and nothing in them, made so that each test can have one."""

import shutil
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import delete

from tests.support.services import Postgres
from worker.store import schema
from worker.store.all_tables import metadata
from worker.store.engine import Database
from worker.store.tables import cursors


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


def clear(server: Postgres, url: str) -> None:
    """Leaves a migrated database as it was migrated. Much cheaper than a copy for each test."""
    emptied = [str(delete(table)) for table in reversed(metadata.sorted_tables) if table is not cursors]
    statements = [*emptied, "DELETE FROM cursors WHERE name <> 'events'", "UPDATE cursors SET value = 0"]
    server.execute("; ".join(statements), urlsplit(url).path.lstrip("/"))
