"""Alembic, which runs the migrations. `worker.store.schema` loads it where something is to be migrated, and only there:
with all that it brings, it is larger than the store itself."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def upgrade(engine: Engine, folder: Path) -> None:
    """Run the migrations in `folder` that the database has not seen. Waits for another migration to end."""
    command.upgrade(config(engine, folder), "head")


def config(engine: Engine, folder: Path) -> Config:
    """What Alembic is told, and what `migrations/env.py` finds."""
    made = Config()
    made.set_main_option("script_location", str(folder).replace("%", "%%"))
    made.attributes["engine"] = engine
    return made
