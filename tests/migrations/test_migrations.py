"""Migrations are proved: up from nothing, no drift, never waiting for long, one at a time, and photographs."""

import ast
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from worker.clock import monotonic
from worker.errors import SchemaMismatch
from worker.store import engine, schema
from worker.store.all_tables import metadata
from worker.store.engine import Database
from worker.store.views import VIEWS

ROOT = schema.MIGRATIONS.parent
VERSIONS = sorted((schema.MIGRATIONS / "versions").glob("*.py"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty(request, tmp_path):
    """A database with nothing in it, not even a schema."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/empty.db" if on_sqlite else request.getfixturevalue("postgres_url")
    handle = Database(url)
    yield handle
    handle.dispose()


@pytest.fixture
def migrations(tmp_path, monkeypatch):
    """A copy of the migrations, for tests that add to them."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    return folder


def add_migration(folder: Path, statement: str) -> None:
    """One more migration behind the newest."""
    newest = ScriptDirectory(str(folder)).get_current_head()
    (folder / "versions" / "99991231_0000_later.py").write_text(
        f'"""Later."""\nfrom alembic import op\nrevision = "later"\ndown_revision = "{newest}"\n'
        f"def upgrade():\n    op.execute({statement!r})\n"
    )
    # A process reads its migrations once; this stands for the next release's.
    schema._revisions.cache_clear()


def test_up_from_nothing(empty):
    assert schema.current(empty) is None

    before, after = schema.migrate(empty)

    assert (before, after) == (None, schema.head())
    schema.require_current(empty)
    assert set(inspect(empty.engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    assert set(inspect(empty.engine).get_view_names()) == set(VIEWS)
    assert schema.migrate(empty) == (after, after)


def test_the_tables_are_what_the_migrations_make(empty):
    schema.migrate(empty)

    with empty.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": not empty.is_sqlite}
        )
        differences = compare_metadata(context, metadata)

    assert [found for found in differences if "alembic_version" not in str(found)] == []


def test_every_constraint_has_a_name(empty):
    schema.migrate(empty)

    found = inspect(empty.engine)
    names = [
        constraint["name"]
        for table in metadata.tables
        for constraint in (
            *found.get_foreign_keys(table), *found.get_unique_constraints(table), *found.get_check_constraints(table),
            found.get_pk_constraint(table),
        )
    ]  # fmt: skip
    assert None not in names
    assert len(names) > len(metadata.tables)


def squeezed(sql: str) -> str:
    return " ".join(sql.split())


def test_the_views_in_the_migrations_are_those_of_the_application():
    created = {}
    for path in VERSIONS:
        for found in re.finditer(r'"""\s*CREATE (?:OR REPLACE )?VIEW (\w+) AS(.*?)"""', path.read_text(), re.DOTALL):
            created[found[1]] = squeezed(found[2])

    assert created == {name: squeezed(sql) for name, sql in VIEWS.items()}


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_imports_nothing_of_the_project(path):
    """It must still do what it did when the code has long moved on."""
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip

    assert imported <= {"alembic", "sqlalchemy", "collections", "datetime", "json", "uuid"}


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_is_dated_explained_and_goes_forward_only(path):
    tree = ast.parse(path.read_text())

    assert re.fullmatch(r"\d{8}_\d{4}_[a-z0-9_]+", path.stem)
    assert ast.get_docstring(tree)
    [downgrade] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "downgrade"]
    assert "NotImplementedError" in ast.dump(downgrade)


def test_there_is_one_newest_migration():
    assert len(ScriptDirectory(str(schema.MIGRATIONS)).get_heads()) == 1


def test_the_revisions_are_known_without_alembic():
    scripts = ScriptDirectory(str(schema.MIGRATIONS))

    assert schema._revisions(schema.MIGRATIONS) == (
        scripts.get_current_head(),
        frozenset(script.revision for script in scripts.walk_revisions()),
    )


MIGRATE = """
import sys
from worker.store import schema
from worker.store.engine import Database
sys.stdin.read()
database = Database(sys.argv[1])
print(schema.migrate(database)[1])
database.dispose()
"""


def test_deployments_that_migrate_at_once_go_one_after_the_other(empty):
    """In processes of their own, because Alembic has one context for each process."""
    url = empty.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", MIGRATE, url]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    answers = []
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    for process in running:
        answers.append(process.communicate(timeout=60))

    assert answers == [(f"{schema.head()}\n", "")] * 3
    schema.require_current(empty)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty, migrations):
    schema.migrate(empty)
    before = schema.current(empty)
    add_migration(migrations, "CREATE TABLE half (id INTEGER)")
    broken = migrations / "versions" / "99991231_0000_later.py"
    broken.write_text(broken.read_text() + "    op.drop_table('nowhere')\n")

    with pytest.raises(Exception, match="nowhere"):
        schema.migrate(empty)

    assert schema.current(empty) == before
    assert "half" not in inspect(empty.engine).get_table_names()


@pytest.mark.postgres
def test_a_migration_does_not_wait_for_a_table_that_somebody_holds(postgres_url, migrations):
    database = Database(postgres_url)
    schema.migrate(database)
    env = migrations / "env.py"
    assert "LOCK_TIMEOUT = '5s'" in env.read_text().replace('"', "'"), "the value that production uses"
    env.write_text(env.read_text().replace('LOCK_TIMEOUT = "5s"', 'LOCK_TIMEOUT = "200ms"'))
    add_migration(migrations, "ALTER TABLE deliveries ADD COLUMN more TEXT")

    with database.read() as session:
        session.execute(text("SELECT * FROM deliveries"))
        began = monotonic()
        with pytest.raises(OperationalError, match="lock timeout"):
            schema.migrate(database)
        assert monotonic() - began < 4

    assert schema.migrate(database)[1] == "later"
    database.dispose()


@pytest.mark.postgres
def test_a_migration_waits_for_another_migration_however_long_it_takes(postgres_url, monkeypatch):
    """The application's own time-outs, which end short statements, do not end this wait."""
    impatient = "-c lock_timeout=100 -c statement_timeout=200 -c timezone=UTC"
    monkeypatch.setattr(engine, "_POSTGRESQL_OPTIONS", impatient)
    database = Database(postgres_url)
    [key] = re.findall(r"ADVISORY_LOCK = ([\d_]+)", (schema.MIGRATIONS / "env.py").read_text())

    with ThreadPoolExecutor(1) as pool:
        with database.engine.connect() as other:
            other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": int(key)})
            waiting = pool.submit(schema.migrate, database)
            with pytest.raises(TimeoutError):
                waiting.result(0.6)
            other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": int(key)})
            other.commit()
        assert waiting.result(20) == (None, schema.head())
    database.dispose()


def stamp(database: Database, revision: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_an_older_schema_is_refused_and_says_what_to_do(empty, migrations):
    with pytest.raises(SchemaMismatch, match=r"at None, this release needs .*: run `verisink migrate`"):
        schema.require_current(empty)

    schema.migrate(empty)
    add_migration(migrations, "SELECT 1")
    with pytest.raises(SchemaMismatch, match="this release needs later: run `verisink migrate`"):
        schema.require_current(empty)


def test_a_newer_schema_is_refused_and_says_what_to_do(empty):
    schema.migrate(empty)
    stamp(empty, "from-the-future")

    with pytest.raises(SchemaMismatch, match="from-the-future, which this release does not know: deploy a newer"):
        schema.require_current(empty)


def test_a_running_process_can_go_on_with_a_newer_schema_but_not_with_an_older(empty, migrations):
    with pytest.raises(SchemaMismatch):
        schema.newer_revision(empty)

    schema.migrate(empty)
    assert schema.newer_revision(empty) is None
    stamp(empty, "from-the-future")
    assert schema.newer_revision(empty) == "from-the-future"

    stamp(empty, schema.head() or "")
    add_migration(migrations, "SELECT 1")
    with pytest.raises(SchemaMismatch, match="run `verisink migrate`"):
        schema.newer_revision(empty)
