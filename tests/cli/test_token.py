"""`verisink token`."""

import json

import pytest
from click.testing import CliRunner

from worker.cli.common import operator
from worker.cli.main import cli
from worker.domain.scopes import TOKEN
from worker.settings import token_digest
from worker.store.query import records
from worker.store.tables import audit_entries
from worker.store.token_table import api_tokens


def rows(database):
    with database.read() as session:
        return records(session, api_tokens.select().order_by(api_tokens.c.created_at))


def test_a_token_is_printed_once_and_alone(shell, database):
    result = shell.run("token", "create", "ci", "--scope", "results:read", "--scope", "results:pii")

    assert result.exit_code == 0
    token = result.stdout.removesuffix("\n")
    assert TOKEN.fullmatch(token)
    assert "cannot be shown again" in result.stderr
    [row] = rows(database)
    assert (row["name"], row["sha256"], row["scopes"]) == ("ci", token_digest(token), "results:pii results:read")
    assert (row["created_by"], row["expires_at"], row["last_used_at"]) == (operator(), None, None)
    for arguments in (["token"], ["token", "list"], ["token", "list", "--json"], ["doctor", "--offline"]):
        said = shell.run(*arguments).output
        assert token not in said
        assert row["sha256"] not in said


def test_programs_get_it_as_json(shell):
    made = shell.json("token", "create", "ci", "--scope", "ops:read", "--expires", "90d")

    assert TOKEN.fullmatch(made["token"])
    assert (made["name"], made["scopes"]) == ("ci", ["ops:read"])
    [listed] = shell.json("token", "list")
    assert (listed["state"], listed["expires_at"]) == ("good", made["expires_at"])
    assert shell.json("token") == [listed]


def test_the_list_shows_what_became_of_them(shell, database):
    assert "tokens: none" in shell.run("token").stdout
    for name in ("first", "second", "third"):
        shell.run("token", "create", name, "--scope", "ops:read", "--expires", "1m")
    shell.run("token", "revoke", "second")
    with database.write() as session:
        ended = api_tokens.update().where(api_tokens.c.name == "third").values(expires_at=api_tokens.c.created_at)
        session.execute(ended)

    states = {item["name"]: item["state"] for item in shell.json("token", "list")}

    assert states == {"first": "good", "second": "revoked", "third": "expired"}
    [line] = [line for line in shell.run("token", "list").stdout.splitlines() if "second" in line]
    assert "revoked" in line
    assert "ops:read" in line


def test_revoking_says_how_soon_and_what_was_not_there(shell, database):
    shell.run("token", "create", "ci", "--scope", "ops:read")

    result = shell.run("token", "revoke", "ci")
    assert (result.exit_code, "within 5 seconds" in result.stdout) == (0, True)

    for name in ("ci", "nobody"):
        result = shell.run("token", "revoke", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"no token {name}" in result.stderr
    with database.read() as session:
        entries = records(session, audit_entries.select().order_by(audit_entries.c.id))
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        (operator(), "create-token"), (operator(), "revoke-token"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "a b", "--scope", "ops:read"], "name"),
        (["create", "tests", "--scope", "ops:read"], "of the settings"),
        (["create", "ci", "--scope", "ops:read", "--expires", "99999d"], "at most"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(shell, database, arguments, words):
    result = shell.run("token", *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert rows(database) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "ci"],
        ["create", "--scope", "ops:read"],
        ["create", "ci", "--scope", "everything"],
        ["create", "ci", "--scope", "ops:read", "--expires", "soon"],
        ["create", "ci", "--scope", "ops:read", "--expires", "0d"],
        ["create", "ci", "--scope", "ops:read", "--expires", "٣d"],
        ["revoke"],
    ],
)
def test_wrong_usage(lonely, arguments):
    assert lonely.run("token", *arguments).exit_code == 2


@pytest.mark.parametrize("name", ["create", "list", "revoke"])
def test_each_explains_itself(name):
    said = CliRunner().invoke(cli, ["token", name, "--help"]).output
    assert f"Example: verisink token {name}" in " ".join(said.split())


def test_the_doctor_counts_those_that_are_good(shell, database_url):
    def api():
        # The tests' PostgreSQL does not sync, which the doctor rightly fails.
        checks = json.loads(shell.run("doctor", "--offline", "--json").stdout)
        [found] = [check for check in checks if check["name"] == "api"]
        return found["state"], found["detail"]

    assert api() == ("ok", "1 tokens in the settings, 0 in the database")
    del shell.environment["VERISINK_API_TOKENS"]
    assert api()[0] == "warn"
    shell.run("token", "create", "ci", "--scope", "ops:read")
    assert api() == ("ok", "0 tokens in the settings, 1 in the database")
    shell.run("token", "revoke", "ci")
    assert api()[0] == "warn"
