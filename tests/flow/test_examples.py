"""The examples, each as its reader would run it, beside a real Verisink: every decision arrives, also after a kill."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import unavailable
from tests.flow.conftest import Install
from tests.store import databases
from tests.support.evidence import Flow, flow
from tests.support.processes import API_TOKEN, ROOT, Child, Installation, eventually
from tests.support.services import ServiceUnavailable, free_port
from web.simulator.records import Ref

pytestmark = pytest.mark.flow

EXAMPLES = ROOT / "examples"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
INSTALL_SECONDS = 90
DECIDED = "verification.result.decided"


def decide(running: Flow, action: str = "approve") -> Ref:
    world = running.simulator.world
    ref = world.create("gu1", "kyc-validation").ref
    assert running.tell(world.change(ref, action)).status == 200  # type: ignore[arg-type]
    running.result(ref, stage="decided")
    return ref


def change_mind(running: Flow, ref: Ref) -> None:
    assert running.tell(running.simulator.world.change(ref, "decline")).status == 200
    running.result(ref, outcome="rejected")


def start(installation: Installation, example: str, **environ: str) -> Child:
    """An example as a process, which ends with the installation."""
    return installation.start_program(example.partition("/")[0], [sys.executable, str(EXAMPLES / example)], **environ)


def printed(*children: Child) -> list[dict[str, object]]:
    return [json.loads(line) for child in children for line in child.output.splitlines()]


def outcomes(lines: list[dict[str, object]]) -> dict[object, object]:
    """The last outcome that was printed of each resource."""
    return {line["external_id"]: line["outcome"] for line in lines if "external_id" in line}


def arrived(children: list[Child], wanted: Mapping[str, str]) -> bool:
    return outcomes(printed(*children)) == wanted


def kept(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path, timeout=10)) as database:
        found = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'decisions'").fetchone()
        return dict(database.execute("SELECT external_id, outcome FROM decisions")) if found[0] else {}


@pytest.fixture
def running(simulator, install: Install) -> Iterator[Flow]:
    installation = install()
    child = installation.up()
    with flow(simulator, installation, child.url) as made:
        yield made


def follow_by_sql(running: Flow, folder: Path, results_url: str) -> None:
    own = folder / "decisions.db"
    told = {"RESULTS_URL": results_url, "OWN_URL": f"sqlite:///{own}", "PAUSE_SECONDS": "0.1"}
    first = decide(running)
    consumer = start(running.installation, "sql/consumer.py", **told)
    eventually(lambda: own.exists() and kept(own) == {first.external_id: "approved"}, "the first decision")
    consumer.kill()
    second = decide(running, "decline")
    change_mind(running, first)

    consumer = start(running.installation, "sql/consumer.py", **told)

    wanted = {first.external_id: "rejected", second.external_id: "rejected"}
    eventually(lambda: kept(own) == wanted, "both decisions as they are now")
    assert consumer.stop() == 0


def test_sql_on_the_embedded_default(running, tmp_path):
    follow_by_sql(running, tmp_path, running.installation.database_url)


@pytest.mark.postgres
def test_sql_on_postgres(simulator, install, postgres_server, tmp_path):
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    installation = install(database_url=url)
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        follow_by_sql(
            running, tmp_path, url if "+psycopg" in url else url.replace("postgresql:", "postgresql+psycopg:")
        )


def test_polling_the_api(running, tmp_path):
    told = {"VERISINK_URL": running.installation.url, "API_TOKEN": API_TOKEN, "PLACE": str(tmp_path / "place.txt")}
    first = decide(running)
    before = start(running.installation, "api_poll/consumer.py", **told)
    eventually(lambda: outcomes(printed(before)) == {first.external_id: "approved"}, "the first decision")
    eventually((tmp_path / "place.txt").exists, "its place")
    before.kill()
    second = decide(running)
    change_mind(running, first)

    after = start(running.installation, "api_poll/consumer.py", **told)

    wanted = {first.external_id: "rejected", second.external_id: "approved"}
    eventually(partial(arrived, [before, after], wanted), "both decisions as they are now")
    assert after.stop() == 0


@pytest.mark.redis
def test_a_redis_stream(simulator, install, redis_server_url):
    stream = "examples:events"
    sink = {"TYPE": "redis_stream", "URL": redis_server_url, "STREAM": stream, "TYPES": DECIDED}
    told = {"REDIS_URL": redis_server_url, "STREAM": stream, "GROUP": "billing", "CLAIM_AFTER_MS": "100"}
    installation = install()
    child = installation.up(**{f"VERISINK_SINKS__BILLING__{name}": value for name, value in sink.items()})
    with flow(simulator, installation, child.url) as running:
        one = start(installation, "redis_stream/consumer.py", CONSUMER="one", **told)
        first = decide(running)
        eventually(lambda: first.external_id in outcomes(printed(one)), "the first decision")
        one.kill()
        refs = [first, *(decide(running) for _ in range(3))]

        others = [start(installation, "redis_stream/consumer.py", CONSUMER=name, **told) for name in ("two", "three")]

        eventually(partial(arrived, [one, *others], {ref.external_id: "approved" for ref in refs}), "every decision")
        ids = [line["event"] for line in printed(one, *others)]
        assert len(ids) == len(set(ids))
        # The other may have been too late for any, and not yet know what to do with a signal.
        assert {child.stop() for child in others if child.output} == {0}


def webhooks(port: int) -> dict[str, str]:
    """The settings of a sink that is being given a new secret."""
    settings = {
        "TYPE": "webhook",
        "URL": f"http://127.0.0.1:{port}/verisink",
        "SECRETS": f"{SECRET},{OLD_SECRET}",
        "TYPES": DECIDED,
        "ALLOW_HTTP": "true",
        "ALLOW_PRIVATE": "true",
    }
    return {f"VERISINK_SINKS__OTHERS__{name}": value for name, value in settings.items()}


def is_refused(url: str) -> bool:
    """Whether the receiver refuses what nobody signed; false while it is not there."""
    try:
        return httpx.post(url, json={"id": "forged"}, trust_env=False).status_code == 400
    except httpx.TransportError:
        return False


def test_a_webhook_in_flask(simulator, install, tmp_path):
    port, database = free_port(), tmp_path / "inbox.db"
    installation = install()
    command = [sys.executable, "-m", "flask", "--app", str(EXAMPLES / "webhook_flask" / "app.py"), "run"]
    # Still with the old secret: it is one of the two that sign.
    told = {"WEBHOOK_SECRET": OLD_SECRET, "DATABASE": str(database)}
    receiver = installation.start_program("flask", [*command, "--port", str(port)], **told)
    child = installation.up(**webhooks(port))
    with flow(simulator, installation, child.url) as running:
        receiver.ready(lambda: is_refused(f"http://127.0.0.1:{port}/verisink"))
        refs = [decide(running) for _ in range(3)]

        def there() -> list[str]:
            with closing(sqlite3.connect(database, timeout=10)) as opened:
                found = opened.execute("SELECT event FROM inbox").fetchall()
            return sorted(json.loads(event)["subject"].split("/")[-1] for (event,) in found)

        wanted = sorted(ref.external_id for ref in refs)
        eventually(lambda: database.exists() and database.stat().st_size and there() == wanted, "every event")


def test_a_webhook_in_node(simulator, install, tmp_path):
    folder = with_packages(tmp_path)
    port = free_port()
    installation = install()
    told = {"WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    receiver = installation.start_program("node", ["node", str(folder / "server.mjs")], **told)
    child = installation.up(**webhooks(port))
    with flow(simulator, installation, child.url) as running:
        receiver.ready(lambda: is_refused(f"http://127.0.0.1:{port}/verisink"))
        refs = [decide(running) for _ in range(3)]

        eventually(partial(arrived, [receiver], {ref.external_id: "approved" for ref in refs}), "every event")
        assert receiver.stop(signal.SIGTERM) == 0


def with_packages(tmp_path: Path) -> Path:
    """The example's folder with what it needs installed, or a skip where there is no npm, or no way to its packages."""
    folder = tmp_path / "webhook_node"
    shutil.copytree(EXAMPLES / "webhook_node", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable(ServiceUnavailable("Node.js: no node and npm on the PATH"))
    try:
        subprocess.run(
            [str(npm), "ci", "--no-audit", "--no-fund"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
            env=os.environ,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        unavailable(ServiceUnavailable(f"Node.js: npm ci: {type(error).__name__}"))
    return folder
