"""The schema's age: migrate it, and refuse to run on one that this release does not know."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import worker
from worker.errors import SchemaMismatch

# Imported so that whoever asks about the schema finds the metadata whole.
from worker.store import sink_tables as sink_tables
from worker.store.engine import Database

MIGRATIONS = Path(worker.__file__).parent.parent / "migrations"


def migrate(database: Database) -> tuple[str | None, str | None]:
    """Bring the schema up to date; returns the revisions before and after. Waits for another migration to end. Raises
    SchemaMismatch if a newer release has migrated it: that is not undone by an older one."""
    before = current(database)
    if before is not None and before not in _revisions(MIGRATIONS)[1]:
        raise _too_new(before)
    command.upgrade(_config(database), "head")
    return before, current(database)


def current(database: Database) -> str | None:
    """The revision of the database's schema; None if it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


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
def _revisions(folder: Path) -> tuple[str | None, frozenset[str]]:
    """The newest revision and all of them. Read once: it takes longer than the question to the database."""
    scripts = ScriptDirectory(str(folder))
    return scripts.get_current_head(), frozenset(script.revision for script in scripts.walk_revisions())


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = database.writer
    return config
