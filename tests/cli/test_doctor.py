"""`verisink doctor`: says what is wrong and what to do, and that all is well only if it is."""

import json
import shutil
import threading
from collections import namedtuple
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import SETTINGS, Shell
from tests.support.services import PostgresServer, free_port
from worker.cli import checks
from worker.clock import utc_now

DiskUsage = namedtuple("DiskUsage", "total used free")


class Provider(ThreadingHTTPServer):
    """A provider that answers with one status, and remembers what it was asked."""

    status = 404
    asked: list[tuple[str, str | None]]


class Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def provider():
    server = Provider(("127.0.0.1", 0), Answer)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def with_provider(shell, port):
    url = f"http://127.0.0.1:{port}/api/v1"
    return Shell({**shell.environment, "VERISINK_SOURCES__PERSONA_LIVE__BASE_URL": url})


def examine(shell, *arguments):
    """The exit status, and the checks by name; of several with one name the last."""
    result = shell.run("doctor", "--json", *arguments)
    for secret in ("secret-api-key", "secret-of-the-webhooks", "secret-token", "hidden"):
        assert secret not in result.output
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}


def states(found):
    return {name: check["state"] for name, check in found.items()}


def test_all_is_well_where_nobody_has_worked_yet(sqlite_template, provider):
    shell = with_provider(
        Shell({"VERISINK_DATABASE_URL": f"sqlite:///{sqlite_template}", **SETTINGS}), provider.server_port
    )

    status, found = examine(shell)

    assert states(found) == {
        "settings": "ok", "api": "ok", "disk": "ok", "database": "ok", "durability": "ok", "migrations": "ok",
        "clock": "ok", "broker": "ok", "persona-live: webhooks": "ok", "persona-live: credential": "ok",
        # No worker was ever started on this database, which is no failure and is said.
        "VerisinkNoSweep": "warn",
    }  # fmt: skip
    assert status == 0
    [(path, authorization)] = provider.asked
    assert path.startswith("/api/v1/inquiries/")
    assert authorization == "Bearer secret-api-key"


@pytest.mark.postgres
def test_all_is_well_on_postgresql(postgres_server):
    # The session's server is asked for first, so that this test is skipped where there is none.
    with PostgresServer(fsync=True) as server:
        shell = Shell({"VERISINK_DATABASE_URL": server.create_database(), **SETTINGS})
        _, empty = examine(shell, "--offline")
        assert shell.run("migrate").exit_code == 0
        status, found = examine(shell, "--offline")

    assert (empty["migrations"]["state"], empty["migrations"]["todo"]) == ("fail", "run `verisink migrate`")
    assert (status, found["database"]["state"], found["durability"]["state"]) == (0, "ok", "ok")


def test_a_database_that_forgets_is_found_out(shell):
    status, found = examine(shell, "--offline")

    forgetful = shell.environment["VERISINK_DATABASE_URL"].startswith("postgresql")
    assert found["durability"]["state"] == ("fail" if forgetful else "ok")
    assert status == (1 if forgetful else 0)


def test_a_table_is_for_people(shell):
    output = shell.run("doctor", "--offline").stdout

    assert "persona-live: webhooks" in output
    assert "credential" not in output


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (200, "ok", "accepts"),
        (404, "ok", "accepts"),
        (401, "fail", "VERISINK_SOURCES__PERSONA_LIVE__API_KEY"),
        (429, "warn", "429"),
        (500, "warn", "500"),
        (400, "warn", "400"),
    ],
)
def test_the_credential_is_tried(lonely, provider, answer, state, words):
    provider.status = answer

    _, found = examine(with_provider(lonely, provider.server_port))

    check = found["persona-live: credential"]
    assert check["state"] == state
    assert words in f"{check['detail']} {check['todo']}"


def test_a_provider_that_cannot_be_reached_fails(lonely):
    status, found = examine(with_provider(lonely, free_port()))

    assert status == 1
    assert "cannot be reached" in found["persona-live: credential"]["detail"]


def test_what_is_missing_is_named_by_its_setting():
    shell = Shell({"VERISINK_SOURCES__YOTI_LIVE__PROVIDER": "yoti", "VERISINK_DATABASE_URL": "sqlite:///x.db"})

    status, found = examine(shell)

    assert status == 1
    assert found["settings"]["state"] == "warn"
    assert found["api"]["state"] == "warn"
    assert found["yoti-live: webhooks"]["todo"] == "set VERISINK_SOURCES__YOTI_LIVE__NOTIFICATION_TOKENS"
    assert "VERISINK_SOURCES__YOTI_LIVE__SDK_ID" in found["yoti-live: credential"]["todo"]


def test_a_key_that_cannot_sign_is_wrong_settings():
    shell = Shell(
        {
            "VERISINK_SOURCES__YOTI_LIVE__PROVIDER": "yoti",
            "VERISINK_SOURCES__YOTI_LIVE__SDK_ID": "a-b",
            "VERISINK_SOURCES__YOTI_LIVE__PRIVATE_KEY": "hidden",
        }
    )

    status, found = examine(shell)

    assert (status, states(found)) == (1, {"settings": "fail"})
    assert "PRIVATE_KEY: is not an unencrypted private key" in found["settings"]["detail"]


def test_without_sources_there_is_nothing_to_do():
    status, found = examine(Shell({}))

    assert (status, found["settings"]["state"]) == (0, "warn")
    assert "VERISINK_SOURCES__" in found["settings"]["todo"]


def test_wrong_settings_are_all_that_is_checked():
    status, found = examine(Shell({"VERISINK_DATABASE_URL": "mysql://hidden@x"}))

    assert status == 1
    assert states(found) == {"settings": "fail"}


def test_looking_makes_no_database(lonely, tmp_path):
    status, found = examine(lonely, "--offline")

    assert (status, found["database"]["state"]) == (0, "warn")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_fails():
    status, found = examine(Shell({"VERISINK_DATABASE_URL": "sqlite:////nonexistent/verisink.db"}))

    assert (status, found["disk"]["state"]) == (1, "fail")


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "fail"), (500 << 20, "warn"), (1 << 40, "ok")])
def test_a_disk_that_fills_up_is_noticed(lonely, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(0, 0, free))

    _, found = examine(lonely, "--offline")

    assert found["disk"]["state"] == state


def test_a_database_that_is_away_fails(lonely):
    url = f"postgresql://ada:hidden@127.0.0.1:{free_port()}/verisink"

    status, found = examine(Shell({**lonely.environment, "VERISINK_DATABASE_URL": url}), "--offline")

    assert (status, found["database"]["state"]) == (1, "fail")
    assert "migrations" not in found


def test_clocks_that_differ_are_noticed(shell, monkeypatch):
    monkeypatch.setattr(checks, "utc_now", lambda: utc_now() + timedelta(minutes=2))

    status, found = examine(shell, "--offline")

    assert (status, found["clock"]["state"]) == (1, "fail")
    assert "120 s" in found["clock"]["detail"]
    assert "Persona" in found["clock"]["detail"]


@pytest.mark.redis
def test_a_broker_that_answers_is_fine(lonely, redis_url):
    _, found = examine(Shell({**lonely.environment, "VERISINK_BROKER_URL": redis_url}), "--offline")

    assert found["broker"]["state"] == "ok"


@pytest.mark.redis
def test_a_shared_budget_store_that_answers_is_fine(lonely, redis_url):
    _, found = examine(Shell({**lonely.environment, "VERISINK_REDIS_URL": redis_url}), "--offline")

    assert (found["broker"]["state"], found["redis"]["state"]) == ("ok", "ok")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_fails(lonely, scheme):
    away = f"{scheme}://ada:hidden@127.0.0.1:{free_port()}//"

    status, found = examine(Shell({**lonely.environment, "VERISINK_BROKER_URL": away}), "--offline")

    assert (status, found["broker"]["state"]) == (1, "fail")


def test_a_shared_budget_store_that_is_away_is_a_warning(lonely):
    away = f"redis://ada:hidden@127.0.0.1:{free_port()}/0"

    _, found = examine(Shell({**lonely.environment, "VERISINK_REDIS_URL": away}), "--offline")

    assert found["redis"]["state"] == "warn"
