"""`verisink up` with SQLite and nothing else: the whole journey, its ends, and what it refuses."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.flow.conftest import NO_LIMIT, Install
from tests.support.evidence import Flow, assert_events_once, assert_nothing_lost, flow
from tests.support.processes import Installation, eventually
from web.simulator.credentials import Credentials
from web.simulator.faults import Faults
from web.simulator.notifications import Flaw, compose, sign
from web.simulator.notifier import Receipt
from web.simulator.records import Record, Ref
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic
from web.simulator.world import World

pytestmark = pytest.mark.flow

WEBHOOKS = 200
SENT_BEFORE_THE_KILL = 50
WEBHOOKS_PER_SECOND = 100


@pytest.fixture(scope="module")
def home(credentials: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """One `verisink up` for all tests that leave it alive."""
    folder = tmp_path_factory.mktemp("home")
    with Simulator(credentials, seed=3) as simulator, ExitStack() as stack:
        installation = stack.enter_context(Installation(folder, credentials, simulator.url))
        stack.callback(installation.show)
        child = installation.up()
        with flow(simulator, installation, child.url) as running:
            yield running
        assert child.stop() == 0


def inquiry_with_selfie(world: World) -> tuple[Ref, Ref]:
    inquiry = world.create("persona", "inquiry", reference="customer-1").ref
    selfie = world.create("persona", "verification/selfie", parent=inquiry).ref
    world.change(selfie, "approve")
    world.change(inquiry, "complete")
    return world.change(inquiry, "approve").ref, selfie


def document_with_liveness(world: World, shape: str) -> tuple[Ref, Ref]:
    liveness = world.create("verifik", "document-liveness", shape=shape).ref
    world.change(liveness, "approve")
    paper = world.create("verifik", "document-validation", liveness=liveness.external_id).ref
    return world.change(paper, "approve").ref, liveness


def registration_with_validations(world: World) -> tuple[Ref, list[Ref]]:
    registration = world.create("verifik", "app-registration", reference="customer-2").ref
    parts = [
        world.create("verifik", kind, parent=registration).ref
        for kind in ("email-validation", "document-validation", "biometric-validation")
    ]
    for part in parts:
        world.change(part, "approve")
    return world.change(registration, "approve").ref, parts


def decided(home: Flow, provider: str, kind: str, action: str) -> Record:
    ref = home.simulator.world.create(provider, kind).ref
    return home.simulator.world.change(ref, action)  # type: ignore[arg-type]


# The journey.


@pytest.mark.parametrize(
    ("provider", "kind", "action", "outcome"),
    [
        ("persona", "verification/selfie", "approve", "approved"),
        ("persona", "verification/selfie", "decline", "rejected"),
        ("persona", "inquiry", "decline", "rejected"),
        ("verifik", "biometric-validation", "approve", "approved"),
        ("gu1", "kyc-validation", "decline", "rejected"),
        ("yoti", "session", "approve", "approved"),
    ],
)
def test_a_notification_becomes_a_decided_result(home, provider, kind, action, outcome):
    record = decided(home, provider, kind, action)

    assert json.loads(home.tell(record).answer)["status"] == "accepted"

    assert_stored(home, record.ref, outcome)


def test_a_face_match_is_retrieved_because_somebody_asked(home):
    ref = decided(home, "gu1", "face-match", "approve").ref
    body = {"source": "gu1", "kind": "face-match", "external_id": ref.external_id}

    assert home.api.post("/api/v1/retrievals", json=body).status_code == 202

    assert_stored(home, ref, "approved", cause="retrieval")


@pytest.mark.parametrize(
    ("shape", "outcome"),
    # The flat shape has scores whose meaning Verifik does not say, so nothing is concluded from them.
    [("flat", "none"), ("nested", "approved")],
)
def test_a_document_validation_leads_to_its_liveness(home, shape, outcome):
    paper, liveness = document_with_liveness(home.simulator.world, shape)

    tell(home, paper)

    assert_stored(home, paper, "approved")
    assert_stored(home, liveness, outcome, cause="discovered")


def test_an_inquiry_leads_to_its_verifications(home):
    inquiry, selfie = inquiry_with_selfie(home.simulator.world)

    tell(home, inquiry)

    assert_stored(home, inquiry, "approved")
    assert_stored(home, selfie, "approved", cause="discovered")
    assert home.result(inquiry)["reference"] == "customer-1"


def test_an_app_registration_leads_to_its_validations(home):
    registration, parts = registration_with_validations(home.simulator.world)

    tell(home, registration)

    assert_stored(home, registration, "approved")
    for part in parts:
        assert_stored(home, part, "approved", cause="discovered")


def test_a_duplicate_makes_no_second_version(home):
    record = decided(home, "persona", "verification/selfie", "approve")
    notice = compose(home.simulator.world, record)
    first = home.notifier.send(notice)
    home.result(record.ref, stage="decided")
    second = home.notifier.send(notice)

    assert json.loads(second.answer) == {**json.loads(first.answer), "status": "duplicate"}
    assert home.result(record.ref)["version"] == 1


def test_the_same_news_twice_from_a_provider_without_event_ids_looks_again(home):
    record = decided(home, "gu1", "kyc-validation", "approve")
    notice = compose(home.simulator.world, record)
    for answer in ("accepted", "duplicate"):
        assert json.loads(home.notifier.send(notice).answer)["status"] == answer
        eventually(lambda: attempts(home, record.ref) and not open_work(home, record.ref), "retrieved")

    assert attempts(home, record.ref) == ["stored", "unchanged"]
    assert home.result(record.ref)["version"] == 1


def test_a_reversal_is_an_event_of_its_own(home):
    ref = inquiry_with_selfie(home.simulator.world)[0]
    tell(home, ref)
    home.result(ref, outcome="approved")
    home.tell(home.simulator.world.change(ref, "reverse"))
    home.result(ref, outcome="rejected", version=2)

    types = eventually(lambda: (found := event_types(home, ref, 2)) and found, "events of version 2")
    assert "verification.result.reversed" in types


def test_wrong_signatures_store_nothing(home):
    for provider, kind in (("persona", "inquiry"), ("verifik", "biometric-validation"), ("yoti", "session")):
        record = decided(home, provider, kind, "approve")
        assert home.tell(record, flaw=Flaw.WRONG_SIGNATURE).status == 401
        assert open_work(home, record.ref) == []


def test_events_are_numbered_without_gaps_in_view_and_api(home):
    tell(home, decided(home, "yoti", "session", "decline").ref)
    home.settled()
    seen = home.rows("SELECT * FROM v1_events ORDER BY sequence")
    listed = home.api.get("/api/v1/events", params={"limit": 200}).json()["items"]

    assert_events_once(seen)
    assert [event["id"] for event in listed] == [event["id"] for event in seen]


def test_health_says_that_all_is_well(home):
    assert home.api.get("/livez").status_code == 200
    ready = home.api.get("/readyz")
    assert ready.json() == {"status": "ok", "checks": {"database": "ok", "broker": "ok", "worker": "ok"}}
    assert home.api.get("/metrics").status_code == 200


def tell(home: Flow, ref: Ref) -> None:
    record = home.simulator.world.get(ref)
    assert record is not None
    receipt: Receipt = home.tell(record)
    assert receipt.status == 200, receipt.answer


def assert_stored(home: Flow, ref: Ref, outcome: str, cause: str = "webhook") -> None:
    """The API and the SQL views agree that `ref` was decided so, and hold the provider's document."""
    found = home.result(ref, stage="decided", outcome=outcome, final=True)
    where = f"WHERE kind = '{ref.kind}' AND external_id = '{ref.external_id}'"
    [row] = home.rows(f"SELECT * FROM v1_results {where}")  # noqa: S608 - our own ids
    history = home.rows(f"SELECT * FROM v1_history {where} ORDER BY version")  # noqa: S608 - our own ids
    checks = home.rows(f"SELECT * FROM v1_checks {where} AND version = {row['version']}")  # noqa: S608 - our own ids
    world = home.simulator.world

    assert (row["stage"], row["outcome"], row["final"]) == ("decided", outcome, 1)
    assert (row["source"], row["environment"]) == (ref.provider, "sandbox")
    assert history[0]["cause"] == cause
    assert len(checks) == len(found["checks"])  # type: ignore[arg-type]
    assert world.digest(ref.provider, found["document"]) == world.truth()[ref].digest  # type: ignore[arg-type]
    assert world.digest(ref.provider, json.loads(str(row["document"]))) == world.truth()[ref].digest


def open_work(home: Flow, ref: Ref) -> list[object]:
    found = home.rows(f"SELECT id FROM resources WHERE external_id = '{ref.external_id}' AND due_at IS NOT NULL")  # noqa: S608
    return [row["id"] for row in found]


def attempts(home: Flow, ref: Ref) -> list[object]:
    statement = f"""
        SELECT a.outcome FROM attempts a JOIN resources r ON r.id = a.resource_id
        WHERE r.external_id = '{ref.external_id}' ORDER BY a.number
    """  # noqa: S608 - our own ids
    return [row["outcome"] for row in home.rows(statement)]


def event_types(home: Flow, ref: Ref, version: int) -> list[object]:
    statement = f"SELECT type FROM v1_events WHERE external_id = '{ref.external_id}' AND version = {version}"  # noqa: S608
    return [row["type"] for row in home.rows(statement)]


# Its ends.


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_in_flight_end(install: Install, simulator: Simulator, how: signal.Signals):
    for provider in ("persona", "verifik", "gu1", "yoti"):
        simulator.faults.set(provider, Faults(latency=1.0, rate_limit_per_minute=NO_LIMIT))
    installation = install()
    child = installation.up()
    kinds = [
        ("persona", "inquiry"),
        ("verifik", "biometric-validation"),
        ("gu1", "kyc-validation"),
        ("yoti", "session"),
    ]
    with flow(simulator, installation, child.url) as running:
        for provider, kind in kinds * 2:
            running.tell(decided(running, provider, kind, "approve"))
        eventually(lambda: len(simulator.world.calls()) >= len(kinds * 2), "all calls are in flight")
        started = time.monotonic()

        assert child.stop(how) == 0

        assert time.monotonic() - started < 8
        assert [call.status for call in simulator.world.calls()] == [200] * 8
        assert {row["outcome"] for row in running.rows("SELECT outcome FROM attempts")} == {"stored"}
        assert_nothing_lost(running)
    assert "Traceback" not in child.log


def test_a_kill_loses_nothing_that_was_acknowledged(install: Install, simulator: Simulator):
    installation = install()
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        plan = Plan(WEBHOOKS, rate=WEBHOOKS_PER_SECOND, duplicate=0.1, reorder=0.3, seed=4)
        traffic = threading.Thread(target=run_traffic, args=(simulator.world, running.notifier, plan))
        traffic.start()
        eventually(lambda: len(running.notifier.acknowledged()) >= SENT_BEFORE_THE_KILL, "some are acknowledged")
        child.kill()
        before = len(running.notifier.acknowledged())
        installation.up()
        traffic.join(60)

        assert not traffic.is_alive()
        assert before < WEBHOOKS <= len(running.notifier.acknowledged())
        assert_nothing_lost(running)


# What it refuses.


def test_a_second_one_on_the_same_database_says_so(home, tmp_path):
    other = home.installation
    child = other.run("up", VERISINK_PORT="0")

    assert child.process.returncode == 1
    assert "another `verisink up` is running" in child.log
    assert "Traceback" not in child.log
    assert home.api.get("/livez").status_code == 200


def test_a_port_in_use_is_said_in_a_sentence(install: Install):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = install(port=port).run("up")

    assert child.process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in child.log
    assert "Traceback" not in child.log


def test_every_mistake_in_the_settings_is_said_at_once(install: Install):
    child = install().run(
        "up", VERISINK_LEASE_SECOND="5", VERISINK_PORT="x", VERISINK_SOURCES__GU1__BASE_URL="http://x.example"
    )

    assert child.process.returncode == 1
    assert child.output == ""
    assert child.log.startswith("3 problem(s) in the settings:")
    assert "did you mean lease_seconds?" in child.log
    assert "Traceback" not in child.log


def test_a_database_that_cannot_be_opened_is_said_in_a_sentence(install: Install, tmp_path: Path):
    child = install(database_url=f"sqlite:///{tmp_path}/missing/verisink.db").run("up")

    assert child.process.returncode == 1
    assert "Traceback" not in child.log


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here, so no disk can be full")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_and_loses_nothing(small_disk: Path, install: Install, simulator: Simulator):
    installation = install(database_url=f"sqlite:///{small_disk}/verisink.db")
    child = installation.up()
    with flow(simulator, installation, child.url) as running:
        tell(running, decided(running, "persona", "inquiry", "approve").ref)
        fill(small_disk)
        refusal = eventually(lambda: refused(running), "a refusal")

        assert refusal.status_code == 503
        assert int(refusal.headers["Retry-After"]) > 0
        assert running.api.get("/livez").status_code == 200

        (small_disk / "filler").unlink()
        eventually(lambda: running.tell(decided(running, "gu1", "kyc-validation", "approve")).status == 200, "space")
        assert_nothing_lost(running)
    assert child.stop() == 0


def fill(disk: Path) -> None:
    """Write until nothing fits any more."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            pass


def refused(running: Flow) -> httpx.Response | None:
    """Send one more; the answer, unless it was taken: what was written before leaves room that is used again."""
    notice = compose(running.simulator.world, decided(running, "persona", "inquiry", "approve"))
    answer = running.notifier.post(sign(running.simulator.credentials, notice))
    return answer if answer.status_code != 200 else None
