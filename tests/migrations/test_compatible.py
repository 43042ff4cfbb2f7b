"""Migrations are compatible with the release before: its code runs on today's schema, so they only add."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Inspector, inspect, text

from tests.store import databases
from tests.support.releases import WHEELS, Release
from worker.store import migration, schema
from worker.store.engine import Database

PREVIOUS = "0.1.0"

Shape = dict[str, object]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release(PREVIOUS, tmp_path_factory.mktemp("releases"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def before(request, tmp_path, previous):
    """A database with the schema of the previous release."""
    on_sqlite = request.param == "sqlite"
    handle = Database(f"sqlite:///{tmp_path}/old.db" if on_sqlite else request.getfixturevalue("postgres_url"))
    head = ScriptDirectory(str(previous.folder / "migrations")).get_current_head()
    assert head is not None
    command.upgrade(migration.config(handle.writer, schema.MIGRATIONS), head)
    yield handle
    handle.dispose()


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return databases.migrated_file(tmp_path_factory.mktemp("schema"))


def shape(database: Database) -> Shape:
    """What old statements rely on, each under a name that says what it is."""
    found = inspect(database.engine)
    parts: Shape = {}
    for table in (*found.get_table_names(), *found.get_view_names()):
        parts[f"{table}"] = "there"
        for column in found.get_columns(table):
            parts[f"{table}.{column['name']}"] = str(column["type"])
    return parts


def demands(database: Database, tables: Iterable[str]) -> set[str]:
    """What a row must fulfil to be written into these tables."""
    found = inspect(database.engine)
    return {demand for table in tables for demand in _demands(found, table)}


def _demands(found: Inspector, table: str) -> Iterable[str]:
    for column in found.get_columns(table):
        if not column["nullable"] and column["default"] is None and not column.get("identity"):
            yield f"{table}.{column['name']} must be given"
    for check in found.get_check_constraints(table):
        yield f"{table}: {check['sqltext']}"
    for unique in found.get_unique_constraints(table):
        yield f"{table}: unique {unique['column_names']}"
    for index in found.get_indexes(table):
        if index["unique"]:
            yield f"{table}: unique {index['column_names']}"
    for key in found.get_foreign_keys(table):
        yield f"{table}: {key['constrained_columns']} in {key['referred_table']}"


def complaints(database: Database, older: Shape, demanded: set[str]) -> list[str]:
    """What the previous release would trip over."""
    now = shape(database)
    tables = [name for name in inspect(database.engine).get_table_names() if name in older]
    missing = [name for name in older if name not in now]
    changed = [f"{name} was {kind}" for name, kind in older.items() if name in now and now[name] != kind]
    return [*missing, *changed, *sorted(demands(database, tables) - demanded)]


def old_tables(database: Database) -> list[str]:
    return inspect(database.engine).get_table_names()


def test_the_previous_release_s_tables_and_views_are_as_it_knows_them(before):
    older, demanded = shape(before), demands(before, old_tables(before))
    assert "deliveries.id" in older
    assert "v1_results.stage" in older

    schema.migrate(before)

    assert complaints(before, older, demanded) == []


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("ALTER TABLE resources ADD COLUMN more TEXT", None),
        ("ALTER TABLE resources ADD COLUMN more INTEGER NOT NULL DEFAULT 0", None),
        ("CREATE TABLE more (id INTEGER NOT NULL UNIQUE)", None),
        ("CREATE INDEX ix_more ON resources (kind)", None),
        ("ALTER TABLE audit_entries RENAME COLUMN actor TO who", "audit_entries.actor"),
        ("DROP TABLE audit_entries", "audit_entries"),
        ("DROP VIEW v1_events", "v1_events"),
        ("CREATE UNIQUE INDEX uq_more ON audit_entries (actor)", "audit_entries: unique ['actor']"),
    ],
)
def test_the_rule_tells_what_is_compatible(tmp_path, sqlite_template, statement, complaint):
    database = Database(databases.sqlite_url(sqlite_template, tmp_path))
    older, demanded = shape(database), demands(database, old_tables(database))
    with database.write() as session:
        session.execute(text(statement))

    found = complaints(database, older, demanded)

    assert (complaint in found) if complaint else found == []
    database.dispose()


ONLY_ON_POSTGRESQL = [
    ("ALTER TABLE audit_entries ALTER COLUMN actor TYPE VARCHAR(5)", "audit_entries.actor was "),
    ("ALTER TABLE audit_entries ADD COLUMN more TEXT NOT NULL", "audit_entries.more must be given"),
    ("ALTER TABLE audit_entries ADD CONSTRAINT more CHECK (actor <> '')", "audit_entries: "),
]


@pytest.mark.postgres
def test_the_rule_tells_what_only_postgresql_can_do(postgres_url):
    database = Database(postgres_url)
    schema.migrate(database)
    older, demanded = shape(database), demands(database, old_tables(database))
    for statement, complaint in ONLY_ON_POSTGRESQL:
        with database.write() as session:
            session.execute(text(statement))
        assert [found for found in complaints(database, older, demanded) if found.startswith(complaint)], statement
    database.dispose()


def test_released_migrations_are_never_changed(previous):
    """Whoever has run them would have another schema than whoever runs them now."""
    for name in previous.revisions():
        released = previous.folder / "migrations" / "versions" / name
        assert released.read_bytes() == Path(schema.MIGRATIONS, "versions", name).read_bytes(), name


def test_a_released_wheel_is_the_one_that_its_page_names():
    page = (WHEELS / "README.md").read_text("utf-8")
    wheels = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in WHEELS.glob("*.whl")}
    assert wheels
    assert dict(re.findall(r"^\| `(\S+\.whl)` \| `[0-9a-f]{40}` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)) == wheels
