"""Webhooks that never came, made good by asking the providers: by command, and by schedule."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.evidence import Flow, flow
from tests.support.processes import Installation, eventually
from web.simulator.credentials import Credentials
from web.simulator.loss import lose
from web.simulator.records import Action, Record
from web.simulator.server import Simulator
from web.simulator.world import World
from worker.cli.common import operator
from worker.clock import utc_now

pytestmark = pytest.mark.flow

SOURCES = ("persona", "verifik", "gu1", "yoti")
AN_HOUR = timedelta(hours=1)


def an_hour_ago() -> datetime:
    return utc_now() - AN_HOUR


@pytest.fixture
def aged(credentials: Credentials) -> Iterator[Simulator]:
    """Everything at these providers happened an hour ago: too long for a webhook to be still on its way."""
    world = World(11, clock=an_hour_ago, organization_id=credentials.gu1_organization_id)
    with Simulator(credentials, world=world, seed=11) as running:
        yield running


def tell(running: Flow, record: Record, event: str | None = None) -> None:
    assert running.tell(record, event).acknowledged


def records_of(running: Flow, kind: tuple[str, str], count: int, *, lost: int, told_first: bool) -> list[Record]:
    """`count` decided records of a kind; nobody was told of the decision on the last `lost` of them."""
    world, found = running.simulator.world, []
    for number in range(count):
        record = world.create(*kind)
        if told_first:
            tell(running, world.change(record.ref, "start"))
        record = decide(running, record, number)
        if number < count - lost:
            tell(running, record)
        elif kind != ("gu1", "face-match"):
            lose(world, record)
        found.append(record)
    return found


def decide(running: Flow, record: Record, number: int) -> Record:
    if record.ref.provider in ("gu1", "yoti") and record.ref.kind != "face-match":
        # What they were told of first must be stored as it was then.
        eventually(lambda: stored(running, record), "the first state is stored")
    action: Action = "decline" if number % 2 else "approve"
    return running.simulator.world.change(record.ref, action)


def stored(running: Flow, record: Record) -> list[dict[str, object]]:
    """The causes of a record's versions, in order."""
    versions = running.rows(
        "SELECT v.cause, r.external_id FROM versions v JOIN resources r ON r.id = v.resource_id ORDER BY v.number"
    )
    return [version for version in versions if version["external_id"] == record.ref.external_id]


def pass_time(running: Flow) -> None:
    """Lets twenty minutes pass since anything was read."""
    path = Path(running.installation.database_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        connection.execute(
            "UPDATE results SET retrieved_at = strftime('%Y-%m-%d %H:%M:%f', retrieved_at, '-20 minutes') || '000', "
            "updated_at = strftime('%Y-%m-%d %H:%M:%f', updated_at, '-20 minutes') || '000'"
        )


def reconcile_all(running: Flow) -> dict[str, dict[str, object]]:
    """What the commands say, one for each source, all at once."""
    children = {source: running.installation.start("reconcile", source, "--json") for source in SOURCES}
    for child in children.values():
        assert child.wait() == 0, child.log
    return {source: json.loads(child.output) for source, child in children.items()}


def tally(report: dict[str, object]) -> tuple[object, ...]:
    numbers = report["tally"]
    assert isinstance(numbers, dict)
    return tuple(numbers[name] for name in ("listed", "missing", "outdated", "reread"))


def assert_true(running: Flow, records: list[Record]) -> None:
    """Every record is stored as the provider has it."""
    world, documents = running.simulator.world, running.documents()
    truth = world.truth()
    stored_digests = {record.ref: world.digest(record.ref.provider, documents[record.ref]) for record in records}  # type: ignore[arg-type]
    assert stored_digests == {record.ref: truth[record.ref].digest for record in records}


@pytest.mark.timeout(300)  # Ten commands beside the processes, on a machine that may be busy.
def test_a_third_of_the_webhooks_is_lost_and_nothing_is_missing_in_the_end(aged, credentials, tmp_path):
    with Installation(tmp_path, credentials, aged.url) as installation:
        up = installation.up()
        with flow(aged, installation, up.url) as running:
            kinds = {
                "persona": records_of(running, ("persona", "inquiry"), 9, lost=3, told_first=False),
                "verifik": records_of(running, ("verifik", "app-registration"), 9, lost=3, told_first=False),
                "gu1": [
                    *records_of(running, ("gu1", "kyc-validation"), 3, lost=1, told_first=True),
                    *records_of(running, ("gu1", "face-match"), 3, lost=3, told_first=False),
                ],
                "yoti": records_of(running, ("yoti", "session"), 6, lost=2, told_first=True),
            }
            running.settled()
            pass_time(running)

            reports = reconcile_all(running)
            assert {source: tally(report) for source, report in reports.items()} == {
                "persona": (9, 3, 0, 0), "verifik": (9, 3, 0, 0), "gu1": (3, 3, 0, 1), "yoti": (0, 0, 0, 2),
            }  # fmt: skip
            assert [reports[source]["loss_rate"] for source in SOURCES] == [
                pytest.approx(1 / 3), pytest.approx(1 / 3), None, None,
            ]  # fmt: skip

            running.settled()
            everything = [record for records in kinds.values() for record in records]
            assert len(everything) == 30
            assert_true(running, everything)
            lost = [kinds["persona"][-3:], kinds["verifik"][-3:], kinds["gu1"][2:], kinds["yoti"][-2:]]
            causes = [stored(running, record)[-1]["cause"] for records in lost for record in records]
            assert causes == ["reconcile"] * 12
            told = [kinds["persona"][:6], kinds["verifik"][:6], kinds["gu1"][:2], kinds["yoti"][:4]]
            assert {stored(running, item)[-1]["cause"] for records in told for item in records} == {"webhook"}

            pass_time(running)
            before = {source: len(aged.world.calls(source)) for source in SOURCES}
            for source, again in reconcile_all(running).items():
                assert tally(again)[1:] == (0, 0, 0)
                assert len(aged.world.calls(source)) - before[source] == again["tally"]["calls"]  # type: ignore[index]
            assert not running.rows("SELECT id FROM resources WHERE due_at IS NOT NULL")
            assert_listed(installation)
            assert up.stop() == 0


def assert_listed(installation: Installation) -> None:
    """The commands that look back know the runs."""
    listed = json.loads(installation.run("reconciliations", "--json").output)
    assert sorted(run["source"] for run in listed) == sorted([*SOURCES, *SOURCES])
    assert {(run["state"], run["actor"]) for run in listed} == {("finished", operator())}
    status = json.loads(installation.run("status", "--json").output)
    assert [run["source"] for run in status["reconciliations"]] == sorted(SOURCES)


def test_a_source_is_reconciled_by_itself(aged, credentials, tmp_path):
    tiny = {"reconcile_hours": 0.0005}
    with Installation(tmp_path, credentials, aged.url, every_source=tiny) as installation:
        for provider, kind in (("persona", "inquiry"), ("verifik", "app-registration"), ("gu1", "id-verification")):
            record = aged.world.change(aged.world.create(provider, kind).ref, "approve")
            if provider != "gu1":
                lose(aged.world, record)
        up = installation.up()
        with flow(aged, installation, up.url) as running:
            eventually(lambda: len(running.rows("SELECT * FROM v1_results")) == 3, "all three are stored", 30)
            runs = "SELECT id FROM reconciliations WHERE actor = 'schedule' AND state = 'finished' AND source = '{}'"
            for source in SOURCES:
                eventually(lambda: len(running.rows(runs.format(source))) >= 2, f"{source} was reconciled twice", 30)  # noqa: B023
            assert {row["cause"] for row in running.rows("SELECT cause FROM versions")} == {"reconcile"}
            assert len(running.rows("SELECT id FROM versions")) == 3
        assert up.stop() == 0
        assert not installation.survivors()


def test_a_provider_that_is_away_is_one_sentence_and_exit_status_1(aged, credentials, tmp_path):
    with Installation(tmp_path, credentials, aged.url) as installation:
        installation.run("migrate")
        aged.stop()

        child = installation.run("reconcile", "persona", "--since", "7d")

        assert child.process.returncode == 1
        assert "failed" in child.output
        assert "the list events: ConnectError, after 4 tries" in child.output
        assert "Traceback" not in child.log
