"""The command line on a real database: each test runs on SQLite and on PostgreSQL."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import structlog
from click.testing import CliRunner, Result

from tests.store.conftest import database, database_url, migrated_postgres_url, sqlite_template
from worker.cli.main import cli

__all__ = ["database", "database_url", "migrated_postgres_url", "sqlite_template"]

PROGRAM = [sys.executable, "-c", "from worker.cli.main import cli; cli()"]

SETTINGS = {
    "VERISINK_SOURCES__PERSONA_LIVE__PROVIDER": "persona",
    "VERISINK_SOURCES__PERSONA_LIVE__WEBHOOK_SECRETS": "secret-of-the-webhooks",
    "VERISINK_SOURCES__PERSONA_LIVE__API_KEY": "secret-api-key",
    "VERISINK_API_TOKENS": "tests:secret-token",
}


@dataclass
class Shell:
    """Runs `verisink` commands with settings of its own."""

    environment: dict[str, str]

    def run(self, *arguments: str) -> Result:
        """The command in this process."""
        return CliRunner(env=self.environment).invoke(cli, arguments, catch_exceptions=False)

    def json(self, *arguments):
        """What the command prints with `--json`."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        assert result.stderr == ""
        return json.loads(result.stdout)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """The command in a process of its own."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(autouse=True)
def restored_logging(monkeypatch, tmp_path):
    """Commands set up logging for a process that ends with them; and no file of settings is found here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def shell(database_url):
    """`verisink` on a migrated and empty database."""
    return Shell({"VERISINK_DATABASE_URL": database_url, **SETTINGS})


@pytest.fixture
def lonely():
    """`verisink` with settings and without a database."""
    return Shell({"VERISINK_DATABASE_URL": "sqlite:///missing.db", **SETTINGS})
