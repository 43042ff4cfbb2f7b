"""The printed SQL, run on a real PostgreSQL: the roles read what they should, and nothing else."""

import uuid
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.store import databases
from tests.store.play import APPROVED, number_all, reading, retrieved
from worker.domain.model import Check
from worker.domain.states import CheckOutcome
from worker.store.grants import GrantNames, granting, revoking
from worker.store.tables import metadata
from worker.store.view_columns import VIEWS_DESCRIBED
from worker.store.views import VIEWS

pytestmark = pytest.mark.postgres

CHECK = Check("selfie", CheckOutcome.FAILED, score=0.5, reasons=("Ada's face",), details={"name": "Ada"})
PERSONAL = [(view.name, column.name) for view in VIEWS_DESCRIBED.values() for column in view.columns if column.personal]
EVIL = ['x"; DROP TABLE results; --', "$verisink$ x", "it's {role}", "Ümläut 漢", "back\\slash", "public"]


@contextmanager
def connection(url):
    with psycopg.connect(urlunsplit(urlsplit(url)._replace(scheme="postgresql")), autocommit=True) as opened:
        yield opened


@pytest.fixture
def names():
    # Roles belong to the server, not to a database, so that each test needs its own.
    mine = uuid.uuid4().hex[:8]
    return GrantNames(f"reader_{mine}", f"auditor_{mine}", "public", f"shared_{mine}")


@pytest.fixture
def admin(postgres_server, migrated_postgres_url, postgres_database, names):
    """A superuser's connection to a database with one result, which is left as it was found."""
    retrieved(postgres_database, found=reading(APPROVED, checks=(CHECK,), reference="ada@example.com"), name="Ada")
    number_all(postgres_database)
    with connection(migrated_postgres_url) as opened:
        yield opened
        run(opened, revoking(names))
        for role in (names.reader, names.personal_reader):
            if opened.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                opened.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def run(opened, statements):
    try:
        opened.execute("\n".join(statements))
    finally:
        opened.execute("ROLLBACK")


@contextmanager
def acting_as(opened, role, schema="public"):
    opened.execute(sql.SQL("SET ROLE {}; SET search_path = {}").format(sql.Identifier(role), sql.Identifier(schema)))
    try:
        yield opened
    finally:
        opened.execute("RESET ROLE; RESET search_path")


def refused(opened, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        opened.execute(statement)


def test_the_reader_sees_everything_but_what_is_personal(admin, names):
    run(admin, granting(names))

    with acting_as(admin, names.reader, names.reader_schema) as reader:
        for view in VIEWS_DESCRIBED.values():
            cursor = reader.execute(f"SELECT * FROM {view.name}")  # noqa: S608
            assert [column.name for column in cursor.description] == list(view.impersonal)
            assert cursor.fetchall() != []
        for name, column in PERSONAL:
            with pytest.raises(psycopg.errors.UndefinedColumn):
                reader.execute(f"SELECT {column} FROM {name}")  # noqa: S608
            refused(reader, f"SELECT {column} FROM public.{name}")  # noqa: S608
        told = str([reader.execute(f"SELECT * FROM {view}").fetchall() for view in VIEWS])  # noqa: S608
    assert "inq_1" in told
    assert "Ada" not in told
    assert "ada@" not in told


def test_the_personal_reader_sees_the_views_themselves(admin, names):
    run(admin, granting(names))

    with acting_as(admin, names.personal_reader) as reader:
        for view in VIEWS:
            cursor = reader.execute(f"SELECT * FROM {view}")  # noqa: S608
            assert [column.name for column in cursor.description] == [c.name for c in VIEWS_DESCRIBED[view].columns]
        assert reader.execute("SELECT document, reference FROM v1_results").fetchone() == (
            {"name": "Ada"},
            "ada@example.com",
        )
        refused(reader, f'SELECT * FROM "{names.reader_schema}".v1_results')  # noqa: S608


@pytest.mark.parametrize("which", ["reader", "personal_reader"])
def test_neither_reads_a_table_or_writes_anywhere(admin, names, which):
    run(admin, granting(names))

    with acting_as(admin, getattr(names, which)) as reader:
        for table in metadata.tables:
            refused(reader, f"SELECT FROM {table}")
        for place in ("public", names.reader_schema):
            refused(reader, f'CREATE TABLE "{place}".mine (x int)')
        for statement in (
            "UPDATE v1_events SET stage = 'decided'",
            "DELETE FROM v1_events",
            "INSERT INTO v1_events (id) VALUES ('x')",
            "TRUNCATE results",
        ):
            refused(reader, statement)


def test_a_login_gets_it_by_membership(admin, names):
    run(admin, granting(names))
    login = f"{names.reader}_login"
    admin.execute(f"CREATE ROLE {login} LOGIN IN ROLE {names.reader}")
    try:
        with acting_as(admin, login, names.reader_schema) as reader:
            assert reader.execute("SELECT count(*) FROM v1_results").fetchone() == (1,)
            refused(reader, "SELECT reference FROM public.v1_results")
    finally:
        admin.execute(f"DROP ROLE {login}")


def test_again_it_changes_nothing_and_repairs_what_was_changed(admin, names):
    run(admin, granting(names))
    admin.execute(f'CREATE VIEW public.on_top AS SELECT outcome FROM "{names.reader_schema}".v1_results')  # noqa: S608
    admin.execute(f"GRANT SELECT (reference) ON v1_results TO {names.reader}")

    run(admin, granting(names))

    with acting_as(admin, names.reader, names.reader_schema) as reader:
        refused(reader, "SELECT reference FROM public.v1_results")
        assert reader.execute("SELECT outcome FROM v1_results").fetchone() == ("approved",)
    admin.execute("DROP VIEW public.on_top")


@pytest.mark.parametrize("before", ["reference, source, provider", "source, kind", "provider, source"])
def test_again_it_takes_away_what_became_personal_and_adds_what_is_new(admin, names, before):
    """As after an upgrade: the views of the release before had other columns."""
    run(admin, granting(names))
    mine = f'"{names.reader_schema}".v1_results'
    admin.execute(f"DROP VIEW {mine}; CREATE VIEW {mine} AS SELECT {before} FROM v1_results")  # noqa: S608

    run(admin, granting(names))

    with acting_as(admin, names.reader, names.reader_schema) as reader:
        cursor = reader.execute("SELECT * FROM v1_results")
        assert [column.name for column in cursor.description] == list(VIEWS_DESCRIBED["v1_results"].impersonal)
        assert len(cursor.fetchall()) == 1


def test_it_can_be_taken_back(admin, names):
    run(admin, granting(names))
    run(admin, revoking(names))
    run(admin, revoking(names))

    assert admin.execute("SELECT to_regnamespace(%s)", [names.reader_schema]).fetchone() == (None,)
    with acting_as(admin, names.personal_reader) as reader:
        refused(reader, "SELECT count(*) FROM v1_results")
    # Nothing is left that would keep them from being dropped.
    admin.execute(f"DROP ROLE {names.reader}; DROP ROLE {names.personal_reader}")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("CREATE ROLE {0} SUPERUSER", "ALTER ROLE {0} NOSUPERUSER", "can do more than it should"),
        (
            "GRANT SELECT ON results TO PUBLIC",
            "REVOKE SELECT ON results FROM PUBLIC",
            "more than it should with: results",
        ),
        ("CREATE ROLE {0}; GRANT pg_read_all_data TO {0}", "REVOKE pg_read_all_data FROM {0}", "more than it should"),
        ("CREATE ROLE {0}; GRANT DELETE ON events TO {0}", "REVOKE DELETE ON events FROM {0}", "with: events"),
        (
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC",
            "later releases",
        ),
        (
            "ALTER VIEW v1_results SET (security_invoker = on)",
            "ALTER VIEW v1_results RESET (security_invoker)",
            "security_invoker",
        ),
        ("CREATE SCHEMA {1} CREATE TABLE theirs (x int)", "DROP SCHEMA {1} CASCADE", "holds other things"),
    ],
)
def test_nothing_is_granted_where_a_role_could_do_more(admin, names, before, after, said):
    filled = [text.format(names.reader, names.reader_schema) for text in (before, after)]
    admin.execute(filled[0])
    try:
        with pytest.raises(psycopg.errors.RaiseException, match=said):
            run(admin, granting(names))
        assert admin.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = %s", [names.personal_reader]
        ).fetchone() == (0,)
    finally:
        admin.execute(filled[1])


@pytest.mark.parametrize("name", EVIL)
def test_any_name_is_quoted(admin, names, name):
    tail = names.reader[-8:]
    evil = GrantNames(f"{name}{tail}", f"{tail}{name}", "public", f"{name}_{tail}")
    try:
        run(admin, granting(evil))
        run(admin, granting(evil))
        with acting_as(admin, evil.reader, evil.reader_schema) as reader:
            assert reader.execute("SELECT count(*) FROM v1_results").fetchone() == (1,)
    finally:
        run(admin, revoking(evil))
        for role in (evil.reader, evil.personal_reader):
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert admin.execute("SELECT to_regclass('results')").fetchone() != (None,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reader": ""},
        {"reader": "a\nb"},
        {"reader": "a\0b"},
        {"reader": "ä" * 32},
        {"personal_reader": "r"},
        {"reader_schema": "s"},
    ],
)
def test_what_cannot_be_a_name_is_refused(wrong):
    with pytest.raises(ValueError, match=r"name|own"):
        GrantNames(**{"reader": "r", "personal_reader": "p", "schema": "s", "reader_schema": "o", **wrong})


def test_the_owner_of_the_tables_can_run_it(postgres_server, names):
    """Without being a superuser; and the views that it makes read with its rights."""
    owner, url = f"owner_{names.reader}", postgres_server.create_database()
    try:
        databases.migrate(url)
        with connection(url) as opened:
            opened.execute(f"CREATE ROLE {owner} CREATEROLE")
            opened.execute(f'ALTER DATABASE "{urlsplit(url).path.lstrip("/")}" OWNER TO {owner}')
            for relation in (*metadata.tables, *VIEWS):
                opened.execute(f"ALTER TABLE {relation} OWNER TO {owner}")
            opened.execute(f"SET SESSION AUTHORIZATION {owner}")
            run(opened, granting(names))
            run(opened, granting(names))
            opened.execute("RESET SESSION AUTHORIZATION")
            with acting_as(opened, names.reader, names.reader_schema) as reader:
                assert reader.execute("SELECT count(*) FROM v1_results").fetchone() == (0,)
    finally:
        postgres_server.drop_database(url)
        for role in (names.reader, names.personal_reader, owner):
            postgres_server.execute(f"DROP ROLE IF EXISTS {role}")
