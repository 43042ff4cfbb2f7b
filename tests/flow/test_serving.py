"""How serving begins and ends: readiness while a newer release is deployed, what cannot be begun, and how long ends
take."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from web import commands, supervising
from web.app import create_app
from worker.cli.migrate import migrate
from worker.embedded import EmbeddedWorker
from worker.errors import CannotListen, SchemaMismatch, StoreError
from worker.instance_lock import only_instance
from worker.runtime import Runtime
from worker.settings import Settings
from worker.store import schema
from worker.store.engine import Database

pytestmark = pytest.mark.flow


def settings(database: Path, **changes: object) -> Settings:
    return Settings.model_validate({"database_url": f"sqlite:///{database}", "port": 0, **changes})


# Readiness.


def ready(client: FlaskClient) -> tuple[int, str]:
    answer: TestResponse = client.get("/readyz")
    assert answer.json is not None
    return answer.status_code, answer.json["checks"]["database"]


def stamp(database: Database, revision: str) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_schema_of_a_newer_release_leaves_receivers_in_the_balancer(tmp_path: Path) -> None:
    runtime = Runtime(settings(tmp_path / "verisink.db"))
    client = create_app(runtime).test_client()
    status, sentence = ready(client)
    assert (status, "run `verisink migrate`" in sentence) == (503, True)

    schema.migrate(runtime.database)
    assert ready(client) == (200, "ok")

    stamp(runtime.database, "from-the-future")
    assert ready(client) == (200, "ok, newer than this release")
    with pytest.raises(SchemaMismatch, match="deploy a newer release"):
        runtime.start_working()
    runtime.database.dispose()


def test_the_migrations_are_not_read_for_each_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(settings(tmp_path / "verisink.db"))
    schema.migrate(runtime.database)
    client = create_app(runtime).test_client()
    assert ready(client) == (200, "ok")

    monkeypatch.setattr(schema, "_SAID", None)
    assert ready(client) == (200, "ok")
    runtime.database.dispose()


# What cannot be begun.


def test_a_port_in_use_is_said_whoever_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = settings(tmp_path / "verisink.db", port=port)
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            supervising.supervise_web(wanted)


def test_trouble_while_listening_is_not_taken_for_a_port_in_use(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), supervising.open_listeners(settings(tmp_path / "verisink.db"), 1):
        raise FileNotFoundError("something else")


def up(database: Path, monkeypatch: pytest.MonkeyPatch, options: Sequence[str] = (), **environ: str) -> str:
    """What `verisink up` says when it cannot begin, in this process."""
    monkeypatch.setattr(commands, "_load", lambda: settings(database, **environ))
    result = CliRunner().invoke(commands.up, list(options))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_folder_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = up(tmp_path / "missing" / "verisink.db", monkeypatch)

    assert f"{tmp_path / 'missing' / 'verisink.db.lock'} cannot be written (No such file or directory)" in said
    assert "VERISINK_DATABASE_URL" in said
    assert "listen" not in said


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What stands for the folder is a file, because nothing is forbidden to a superuser.
    (tmp_path / "folder").touch()

    assert "x.db.lock cannot be written (Not a directory)" in up(tmp_path / "folder" / "x.db", monkeypatch)


def test_an_embedded_worker_that_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_worker: EmbeddedWorker) -> None:
        raise TimeoutError("the worker was not ready")

    monkeypatch.setattr(EmbeddedWorker, "start", never)
    monkeypatch.setattr(EmbeddedWorker, "stop", lambda _worker, _seconds: None)

    assert up(tmp_path / "verisink.db", monkeypatch) == "the worker was not ready\n"


def test_the_lock_is_nobody_else_s_to_read(tmp_path: Path) -> None:
    wanted = settings(tmp_path / "verisink.db")
    with only_instance(wanted):
        assert (os.stat(tmp_path / "verisink.db.lock").st_mode & 0o777) == 0o600
        with pytest.raises(StoreError, match="another `verisink up`"), only_instance(wanted):
            pass
    with only_instance(wanted):
        pass


# How long ends take.


@pytest.mark.parametrize(("deadline", "lease", "grace"), [(20, 60, 55), (2, 4, 9), (300, 3600, 2105)])
def test_a_worker_s_grace_covers_a_call_and_its_writing(
    tmp_path: Path, deadline: float, lease: int, grace: float
) -> None:
    wanted = settings(tmp_path / "verisink.db", call_deadline_seconds=deadline, lease_seconds=lease)

    assert supervising.worker_grace(wanted) == grace


# A schema that a newer release has migrated.


@pytest.fixture
def migrated_by_a_newer_release(tmp_path: Path) -> Path:
    path = tmp_path / "verisink.db"
    database = Database(f"sqlite:///{path}")
    schema.migrate(database)
    stamp(database, "from-the-future")
    database.dispose()
    return path


TOO_NEW = "the database's schema is at from-the-future, which this release does not know: deploy a newer release"


@pytest.mark.parametrize("options", [[], ["--receive-only"], ["--no-receive"]])
def test_up_refuses_a_newer_schema(
    migrated_by_a_newer_release: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    assert up(migrated_by_a_newer_release, monkeypatch, options=options) == TOO_NEW + "\n"


def test_migrate_refuses_a_newer_schema(migrated_by_a_newer_release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older release, deployed by mistake or to go back: nothing is undone, and nobody reads a traceback."""
    monkeypatch.setenv("VERISINK_DATABASE_URL", f"sqlite:///{migrated_by_a_newer_release}")
    result = CliRunner().invoke(migrate)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", TOO_NEW + "\n")


def test_receivers_and_workers_refuse_to_start_on_a_newer_schema(migrated_by_a_newer_release: Path) -> None:
    for start in (Runtime.start_receiving, Runtime.start_working):
        runtime = Runtime(settings(migrated_by_a_newer_release))
        with pytest.raises(SchemaMismatch, match="deploy a newer release"):
            start(runtime)
        runtime.close()
