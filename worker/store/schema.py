"""The schema's age: migrate it, and refuse to run on one that this release does not know."""

import re
from functools import cache
from pathlib import Path

from sqlalchemy import inspect, text

import worker
from worker import lean
from worker.errors import SchemaMismatch

# Imported so that whoever asks about the schema finds the metadata whole.
from worker.store import sink_tables as sink_tables
from worker.store.engine import Database

MIGRATIONS = Path(worker.__file__).parent.parent / "migrations"

RUNS_THEM = "worker.store.migration"
"""By its name, so that a process on a database that is up to date does not load Alembic."""

VERSION_TABLE = "alembic_version"
"""Alembic's own: one row, the revision."""

_SAID = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*(?:None|["']([^"']+)["'])""", re.MULTILINE)
"""What a migration says of itself and of the one before it, as `migrations/script.py.mako` writes it."""


def migrate(database: Database) -> tuple[str | None, str | None]:
    """Bring the schema up to date; returns the revisions before and after. Waits for another migration to end. Raises
    SchemaMismatch if a newer release has migrated it: that is not undone by an older one."""
    before, (wanted, known) = current(database), _revisions(MIGRATIONS)
    if before is not None and before not in known:
        raise _too_new(before)
    if before != wanted:
        lean.load(RUNS_THEM).upgrade(database.writer, MIGRATIONS)
    return before, current(database)


def current(database: Database) -> str | None:
    """The revision of the database's schema; None if it is empty."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
        return found


def head() -> str | None:
    """The newest revision that this release knows."""
    return _revisions(MIGRATIONS)[0]


def require_current(database: Database) -> None:
    """Raise SchemaMismatch, saying what to do, unless the schema is the one that this release was written for."""
    newer = newer_revision(database)
    if newer is not None:
        raise _too_new(newer)


def newer_revision(database: Database) -> str | None:
    """The revision that a newer release brought the schema to; None if it is this release's own.

    A running process can go on with it, because migrations are compatible with the release before. Raises
    SchemaMismatch, saying what to do, if the schema is older or there is none.
    """
    found, (wanted, known) = current(database), _revisions(MIGRATIONS)
    if found == wanted:
        return None
    if found is None or found in known:
        raise SchemaMismatch(
            f"the database's schema is at {found}, this release needs {wanted}: run `verisink migrate`"
        )
    return found


def _too_new(revision: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"the database's schema is at {revision}, which this release does not know: deploy a newer release"
    )


@cache
def _revisions(folder: Path) -> tuple[str, frozenset[str]]:
    """The newest revision and all of them. Read once: it takes longer than the question to the database."""
    said = [dict(_SAID.findall(path.read_text("utf-8"))) for path in (folder / "versions").glob("*.py")]
    known = frozenset(migration["revision"] for migration in said)
    newest = known - {migration["down_revision"] for migration in said}
    if len(newest) != 1:
        raise SchemaMismatch(f"{folder} holds no single line of migrations: install Verisink again")
    return next(iter(newest)), known
