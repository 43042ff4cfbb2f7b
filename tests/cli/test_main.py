"""The command line itself: help, usage, and where trouble ends."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tests.cli.conftest import PROGRAM, SETTINGS, Shell
from tests.support.services import free_port
from worker.cli.main import COMMANDS, LazyGroup, cli

HEAVY = ["alembic", "celery", "flask", "httpx", "pydantic", "redis", "rich", "sqlalchemy", "worker.settings"]


def test_help_lists_every_command():
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in result.output
        assert text.split()[0] in result.output


def test_help_imports_nothing_that_is_slow():
    code = f"""
import json, sys
from worker.cli.main import cli
cli(["--help"], standalone_mode=False)
sys.stderr.write(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(run.stderr) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name):
    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    assert f"Example: verisink {name}" in " ".join(result.output.split())
    assert "--json" in result.output


def test_more_commands_can_be_added():
    group = LazyGroup(commands={"extra": ("worker.cli.migrate:migrate", "Something more."), **COMMANDS})

    assert "Something more." in CliRunner().invoke(group, ["--help"]).output
    assert CliRunner().invoke(group, ["extra", "--help"]).exit_code == 0


def test_what_is_no_command_is_refused():
    group = LazyGroup(commands={"wrong": ("worker.cli.main:HELP", "No command.")})

    with pytest.raises(TypeError):
        group.get_command(click.Context(group), "wrong")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["results", "--no-such-option"],
        ["results", "--limit", "0"],
        ["results", "--limit", "many"],
        ["results", "--stage", "done"],
        ["results", "--updated-after", "yesterday"],
        ["results", "--reference", "a\udcffb"],
        ["results", "--source", "a\0b"],
        ["resources", "--state", "broken"],
        ["attempts", "--error", "no-such-error"],
        ["events", "--after", "-1"],
        ["show"],
        ["show", "persona-live", "inquiry"],
        ["show", "persona-live", "inquiry", "../x"],
        ["show", "persona-live", "Inquiry!", "inq_1"],
        ["show", "persona\udcff", "inquiry", "inq_1"],
        ["retrieve", "persona-live", "inquiry", "a/b"],
        ["retrieve", "persona-live", "inquiry", "inq_1", "--wait", "-1"],
        ["status", "surplus"],
    ],
)
def test_wrong_usage_ends_with_2(lonely, arguments):
    result = lonely.run(*arguments)

    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_wrong_settings_end_with_1_and_name_every_problem():
    shell = Shell({"VERISINK_DATABASE_URL": "mysql://x", "VERISINK_PORTT": "1"})

    result = shell.run("status")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "VERISINK_DATABASE_URL" in result.stderr
    assert "did you mean port?" in result.stderr


COMMANDS_THAT_READ = [
    ["status"], ["results"], ["resources"], ["deliveries"], ["attempts"], ["events"],
    ["show", "persona-live", "inquiry", "inq_1"], ["retrieve", "persona-live", "inquiry", "inq_1"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS_THAT_READ)
def test_without_a_database_the_answer_says_what_to_do_and_makes_none(lonely, tmp_path, arguments):
    result = lonely.run(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "verisink migrate" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [*COMMANDS_THAT_READ, ["migrate"]])
def test_a_database_that_is_away_is_one_clear_sentence(arguments):
    url = f"postgresql://ada:hidden@127.0.0.1:{free_port()}/verisink"

    result = Shell({"VERISINK_DATABASE_URL": url, **SETTINGS}).run(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "VERISINK_DATABASE_URL" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "hidden" not in result.stderr


@pytest.mark.postgres
def test_an_empty_database_must_be_migrated_first(postgres_url):
    shell = Shell({"VERISINK_DATABASE_URL": postgres_url, **SETTINGS})

    before = shell.run("status")
    first, second = shell.json("migrate"), shell.json("migrate")

    assert before.exit_code == 1
    assert "run `verisink migrate`" in before.stderr
    assert (first["before"], second["before"]) == (None, first["after"])
    assert shell.run("status").exit_code == 0


def test_migrate_makes_the_embedded_database(lonely, tmp_path):
    assert "nothing to" in lonely.run("migrate").stdout
    assert "already" in lonely.run("migrate").stdout
    assert (tmp_path / "missing.db").exists()


def test_the_exit_status_of_a_real_process():
    good = subprocess.run([*PROGRAM, "--help"], capture_output=True, check=False)
    bad = subprocess.run([*PROGRAM, "status"], capture_output=True, check=False, env={"VERISINK_WRONG": "1"})
    wrong = subprocess.run([*PROGRAM, "statuss"], capture_output=True, check=False)

    assert [good.returncode, bad.returncode, wrong.returncode] == [0, 1, 2]
