"""The queries for consumers' questions, on both engines, beside answers that are computed from the known history."""

import json
import re
import statistics
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from tests.docs.known_results import SINCE, UNTIL, made_up, write
from tests.store import databases
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.store.engine import Database
from worker.store.view_columns import VIEWS_DESCRIBED

FOLDER = Path(__file__).resolve().parents[2] / "docs/questions"
KNOWN = made_up(26, seed=1)
PERIOD = {"since": f"{SINCE:%Y-%m-%d %H:%M:%S}+00:00", "until": f"{UNTIL:%Y-%m-%d %H:%M:%S}+00:00"}
OPEN = (Stage.CREATED, Stage.IN_PROGRESS, Stage.IN_REVIEW, Stage.UNMAPPED)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path_factory):
    """The known history, written once for all questions: they only read."""
    url = f"sqlite:///{tmp_path_factory.mktemp('questions')}/verisink.db"
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    if server is not None:
        url = server.create_database()
    databases.migrate(url)
    handle = Database(url)
    write(handle, KNOWN)
    yield handle
    handle.dispose()
    if server is not None:
        server.drop_database(url)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.sql")), ids=lambda file: file.name)
def test_a_question_says_which_personal_columns_it_asks_for(file):
    """A reader without personal data learns from it what to leave out."""
    lines = file.read_text("utf-8").splitlines()
    comment = "\n".join(line for line in lines if line.startswith("--"))
    query = "\n".join(line for line in lines if not line.startswith("--"))
    personal = {column.name for view in VIEWS_DESCRIBED.values() for column in view.columns if column.personal}
    said = re.search(r"Personal: ([a-z0-9_, ]+)\.", comment)

    assert set(said[1].split(", ") if said else []) == personal & set(re.findall(r"\w+", query))


def file_of(name, database):
    engine = "sqlite" if database.is_sqlite else "postgresql"
    own = FOLDER / f"{name}.{engine}.sql"
    return own if own.exists() else FOLDER / f"{name}.sql"


def ask(database, name, **parameters):
    """The rows that the file answers with, as plain values that are the same on both engines."""
    with database.read() as session:
        rows = session.execute(text(file_of(name, database).read_text("utf-8")), parameters)
        return [{column: plain(column, value) for column, value in row.items()} for row in rows.mappings()]


def plain(column, value):
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str) and column.endswith(("_at", "_since")):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    if isinstance(value, str) and column == "reasons":
        return json.loads(value)
    return str(value) if column == "week" else value


def test_who_was_declined_and_why(database):
    declined = sorted((at, one.name, one) for one in KNOWN if (at := one.declined_at()) and SINCE <= at < UNTIL)
    expected = []
    for at, name, one in declined:
        failed = [check for check in one.now.checks if check.outcome is CheckOutcome.FAILED]
        told: list[tuple[object, object]] = [(check.name, list(check.reasons)) for check in failed]
        expected += [(*name, one.reference, at, check, reasons) for check, reasons in told or [(None, None)]]

    rows = ask(database, "declined", **PERIOD)

    assert [tuple(row.values()) for row in rows] == expected
    assert len(expected) > 3, "a test of nothing"
    assert any(one.now.at > at for at, _, one in declined), "one whose rejection was read again"


@pytest.mark.parametrize("at", [SINCE, UNTIL, UNTIL + timedelta(hours=7)])
def test_the_verdicts_as_of_a_moment(database, at):
    expected = {}
    for one in KNOWN:
        heard = [(number, told) for number, told in enumerate(one.told, 1) if told.at < at]
        if heard:
            number, told = heard[-1]
            expected[one.name] = (number, told.verdict.stage, told.verdict.outcome, told.at)
    moment = f"{at:%Y-%m-%d %H:%M:%S}+00:00"

    found = {}
    for source in ("persona-live", "gu1-test"):
        for row in ask(database, "verdicts_as_of", source=source, at=moment):
            found[source, row["kind"], row["external_id"]] = tuple(row.values())[2:]
    assert found == expected
    for one in KNOWN[:8] + KNOWN[-4:]:
        source, kind, external_id = one.name
        rows = ask(database, "verdict_as_of", source=source, kind=kind, external_id=external_id, at=moment)
        answer = [(row["version"], row["stage"], row["outcome"], row["retrieved_at"]) for row in rows]
        assert answer == ([expected[one.name]] if one.name in expected else [])


def test_the_median_time_to_a_decision(database):
    seconds = defaultdict(list)
    for one in KNOWN:
        done = one.now.completed_at
        if one.now.verdict.stage is Stage.DECIDED and done and SINCE <= done < UNTIL and one.created_at:
            seconds[one.provider, one.key.ref.kind].append((done - one.created_at).total_seconds())

    rows = ask(database, "time_to_decision", **PERIOD)

    assert [(row["provider"], row["kind"], row["decided"]) for row in rows] == [
        (*name, len(seconds[name])) for name in sorted(seconds)
    ]
    for row in rows:
        assert row["median_seconds"] == pytest.approx(
            statistics.median(seconds[row["provider"], row["kind"]]), abs=0.002
        )
    assert {len(found) % 2 for found in seconds.values()} == {0, 1}, "medians of even and odd numbers"


def test_who_was_reversed(database):
    expected = []
    for one in KNOWN:
        before: Outcome | None = None
        for told in one.decisions():
            if before not in (None, told.verdict.outcome) and SINCE <= told.at < UNTIL:
                expected.append((told.at, (*one.name, one.reference, told.at, before, told.verdict.outcome)))
            before = told.verdict.outcome

    assert [tuple(row.values()) for row in ask(database, "reversed", **PERIOD)] == [row for _, row in sorted(expected)]
    assert len(expected) > 1


def test_who_is_waiting_for_longest(database):
    expected = sorted(
        (one.created_at or one.told[0].at, *one.name, one.reference)
        for one in KNOWN
        if one.now.verdict.stage in OPEN and not one.now.verdict.final
    )

    rows = ask(database, "waiting_longest")

    assert [
        (row["waiting_since"], row["source"], row["kind"], row["external_id"], row["reference"]) for row in rows
    ] == expected
    assert any(one.created_at is None for one in KNOWN if one.now.verdict.stage in OPEN)


def test_one_person_across_providers(database):
    expected = sorted((one.provider, *one.name, one.now.verdict.outcome) for one in KNOWN if one.reference == "ada")

    rows = ask(database, "one_person", reference="ada")

    names = ("provider", "source", "kind", "external_id", "outcome")
    assert [tuple(row[name] for name in names) for row in rows] == expected
    assert {row["provider"] for row in rows} == {"persona", "gu1"}


def test_which_checks_fail_most(database):
    counted = Counter(
        (one.provider, name)
        for one in KNOWN
        if SINCE <= one.now.at < UNTIL
        for name in {check.name for check in one.now.checks if check.outcome is CheckOutcome.FAILED}
    )

    rows = ask(database, "failed_checks", **PERIOD)

    assert [((row["provider"], row["name"]), row["results"]) for row in rows] == sorted(
        counted.items(), key=lambda item: (-item[1], item[0])
    )
    assert len(rows) > 2


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_the_share_that_is_approved_by_week(database, zone):
    if database.is_sqlite and zone != "UTC":
        pytest.skip("SQLite knows no time zones, and the file says so")
    weeks = defaultdict(list)
    for one in KNOWN:
        decided = one.now.completed_at or one.now.at
        if one.now.verdict.outcome in (Outcome.APPROVED, Outcome.REJECTED) and decided >= SINCE:
            day = decided.astimezone(ZoneInfo(zone)).date()
            week = (one.provider, one.key.ref.kind, str(day - timedelta(days=day.weekday())))
            weeks[week].append(one.now.verdict.outcome is Outcome.APPROVED)
    asked = {"since": PERIOD["since"]} | ({} if database.is_sqlite else {"zone": zone})

    rows = ask(database, "approved_by_week", **asked)

    found = {(row["provider"], row["kind"], row["week"]): (row["decided"], row["approved_share"]) for row in rows}
    assert list(found) == sorted(weeks)
    for week, outcomes in weeks.items():
        assert found[week] == (len(outcomes), pytest.approx(sum(outcomes) / len(outcomes)))


def test_what_changed_since_a_cursor(database):
    everything = ask(database, "changes_since", after=0)
    behind = ask(database, "changes_since", after=everything[4]["sequence"])

    assert [row["sequence"] for row in everything] == list(range(1, len(everything) + 1))
    assert behind == everything[5:]
    now = {one.name: one.now.verdict.outcome for one in KNOWN}
    seen = {(row["source"], row["kind"], row["external_id"]): row["outcome_now"] for row in everything}
    assert seen == now
    assert [row["occurred_at"] for row in everything[:-1]] == sorted(row["occurred_at"] for row in everything[:-1])


def test_every_question_is_asked_here_and_listed():
    names = {path.name.split(".")[0] for path in FOLDER.glob("*.sql")}
    here = Path(__file__).read_text("utf-8")
    listed = (FOLDER / "README.md").read_text("utf-8")

    assert {name for name in names if f'"{name}"' not in here} == set()
    assert {path.name for path in FOLDER.glob("*.sql") if f"({path.name})" not in listed} == set()
    for own in FOLDER.glob("*.sqlite.sql"):
        assert own.with_name(own.name.replace("sqlite", "postgresql")).exists()
