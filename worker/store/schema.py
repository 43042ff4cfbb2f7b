"""The schema's age: migrate it, and refuse to run on one that this release does not know."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import worker
from worker.errors import SchemaMismatch
from worker.store.engine import Database

MIGRATIONS = Path(worker.__file__).parent.parent / "migrations"


def migrate(database: Database) -> tuple[str | None, str | None]:
    """Bring the schema up to date; returns the revisions before and after. Waits for another migration to end."""
    before = current(database)
    command.upgrade(_config(database), "head")
    return before, current(database)


def current(database: Database) -> str | None:
    """The revision of the database's schema; None if it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision that this release knows."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def require_current(database: Database) -> None:
    """Raise SchemaMismatch, saying what to do, unless the schema is the one that this release was written for."""
    found, wanted = current(database), head()
    if found == wanted:
        return
    known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if found is None or found in known:
        raise SchemaMismatch(
            f"the database's schema is at {found}, this release needs {wanted}: run `verisink migrate`"
        )
    raise SchemaMismatch(
        f"the database's schema is at {found}, which this release does not know: deploy a newer release"
    )


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = database.writer
    return config
