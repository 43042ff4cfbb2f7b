"""`verisink grants` and `verisink schema`."""

import json
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import SETTINGS, Shell
from worker.store.view_columns import VIEWS_DESCRIBED

SHELL = Shell({"VERISINK_DATABASE_URL": "postgresql://ada:hidden@127.0.0.1:1/verisink", **SETTINGS})


def test_it_prints_sql_and_needs_no_server():
    result = SHELL.run("grants", "--reader", "analysts", "--reader-schema", "shared")

    assert (result.exit_code, result.stderr) == (0, "")
    assert 'GRANT USAGE ON SCHEMA "shared" TO "analysts";' in result.stdout
    assert result.stdout.index("BEGIN;") < result.stdout.index("COMMIT;")
    assert "hidden" not in result.stdout
    assert 'DROP SCHEMA IF EXISTS "shared"' in SHELL.run("grants", "--revoke", "--reader-schema", "shared").stdout
    assert SHELL.json("grants")[-1] == "COMMIT;"


@pytest.mark.postgres
def test_what_is_printed_can_be_run_as_it_is(postgres_url):
    shell = Shell({"VERISINK_DATABASE_URL": postgres_url, **SETTINGS})
    names = ("--reader", "printed_reader", "--personal-reader", "printed_personal_reader")
    assert shell.run("migrate").exit_code == 0

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(shell.run("grants", *names).stdout)
        connection.execute("SET ROLE printed_reader")
        assert connection.execute("SELECT count(*) FROM verisink_results.v1_results").fetchone() == (0,)
        connection.execute("RESET ROLE")
        connection.execute(shell.run("grants", "--revoke", *names).stdout)
        connection.execute("DROP ROLE printed_reader; DROP ROLE printed_personal_reader")


def test_on_sqlite_there_is_nothing_to_grant(lonely):
    result = lonely.run("grants")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "SQLite has no roles" in result.stderr


@pytest.mark.parametrize("options", [["--reader", ""], ["--reader", "a\nb"], ["--reader-schema", "public"]])
def test_what_cannot_be_a_name_is_wrong_usage(options):
    result = SHELL.run("grants", *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage" in result.stderr


def test_schema_describes_the_views_without_settings_or_database(tmp_path):
    shell, page = Shell({"VERISINK_WRONG": "1"}), Path("page.md")

    printed = shell.run("schema")
    written = shell.run("schema", "--write", str(page))

    assert (printed.exit_code, written.exit_code, written.stdout) == (0, 0, "")
    assert (tmp_path / page).read_text("utf-8") == printed.stdout
    described = shell.json("schema")
    assert [view["view"] for view in described] == list(VIEWS_DESCRIBED)
    assert {column["name"] for column in described[0]["columns"] if column["personal"]} == {
        "reference",
        "document",
        "provider_status",
    }
    assert shell.run("schema", "--dbt").stdout.startswith("#")


def test_schema_says_what_goes_wrong(tmp_path):
    shell = Shell({})

    assert shell.run("schema", "--json", "--dbt").exit_code == 2
    failed = shell.run("schema", "--write", str(tmp_path / "missing" / "page.md"))
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "No such file" in failed.stderr
    assert json.loads(shell.run("schema", "--json").stdout) != []
