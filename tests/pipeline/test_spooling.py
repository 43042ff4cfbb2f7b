"""The spool's policy: nothing acknowledged is lost or counted twice, however the database and this process fail."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from tests.pipeline.plant import CREDENTIALS, KINDS, settings
from tests.store.play import arrival, now, resource, rows
from web.simulator.notifications import Flaw, compose, sign
from web.simulator.world import World
from worker.clock import monotonic
from worker.errors import AuthenticationFailed, IntakeUnavailable
from worker.pipeline import group_commit
from worker.pipeline import receive as receive_module
from worker.pipeline.receive import Receiver
from worker.pipeline.spooled import pack, unpack
from worker.pipeline.spooling import Spooling
from worker.providers.base import InboundRequest
from worker.providers.registry import providers
from worker.store.engine import Database
from worker.store.spool import Kept, Spool
from worker.store.tables import (
    deliveries,
    delivery_bodies,
    delivery_resources,
    quarantined_deliveries,
    resources,
)

MEGABYTE = 1 << 20
SOURCES = settings("https://provider.example").sources


class Shaky(Database):
    """A database that is away, hangs, or cuts the connection after a commit, as told."""

    away = False
    cut = 0
    asked = 0
    hangs: threading.Event | None = None

    @contextmanager
    def write(self):
        with self.shaken(super().write()) as session:
            yield session

    @contextmanager
    def at_once(self):
        with self.shaken(super().at_once()) as connection:
            yield connection

    @contextmanager
    def shaken(self, opened):
        self.asked += 1
        if self.away:
            raise OperationalError("", {}, Exception("canary"))
        with opened as session:
            if self.hangs is not None:
                self.hangs.wait(20)
            yield session
        if self.cut:
            self.cut -= 1
            raise OperationalError("", {}, Exception("canary"))


class Process:
    """What one web process has. Several may share a database and a folder."""

    def __init__(self, database, folder, **limits) -> None:
        self.database = database
        self.world = World(3)
        self.nudges: list[str] = []
        self.spool = Spool(folder, **{"max_bytes": 64 * MEGABYTE, "min_free_bytes": 0, **limits})
        self.spooling = Spooling(self.spool, database, self.nudges.append)
        self.receiver = Receiver(database, SOURCES, providers(), self.nudges.append, spooling=self.spooling)

    def request(self, provider, flaw=None):
        notice = compose(self.world, self.world.create(provider, KINDS[provider]))
        sent = sign(CREDENTIALS, notice, flaw=flaw)
        token = sent.path.split("/")[3:]
        headers = {name.lower(): value for name, value in sent.headers.items()}
        return notice, InboundRequest(sent.body, headers, token[0] if token else None)

    def receive(self, provider, request=None):
        return self.receiver.receive(provider, request or self.request(provider)[1])

    def died(self, **limits):
        """The process that is started in its place after a kill."""
        return Process(self.database, self.spool.folder, **limits)


@pytest.fixture
def shaky(database_url):
    handle = Shaky(database_url, pool_size=20)
    yield handle
    handle.dispose()


@pytest.fixture
def process(shaky, tmp_path):
    made = Process(shaky, tmp_path / "spool")
    yield made
    made.spooling.stop()


def stored(database):
    return {row.id: row for row in rows(database, deliveries)}


@pytest.mark.parametrize("provider", KINDS)
def test_while_the_database_is_away_a_delivery_is_kept_and_then_handed_over(process, provider):
    process.database.away = True
    notice, request = process.request(provider)
    earliest = now(process.database)

    receipt = process.receive(provider, request)

    assert (receipt.status, receipt.spooled, process.spooling.away) == ("accepted", True, True)
    assert stored(process.database) == {}
    assert process.nudges == []
    latest = now(process.database)

    process.database.away = False
    process.spooling.look()

    [row] = rows(process.database, deliveries)
    assert (row.id, row.source, row.state, row.repeats) == (receipt.delivery_id, provider, "accepted", 0)
    assert earliest <= row.received_at <= latest
    [kept] = rows(process.database, delivery_bodies)
    assert kept.body == notice.body
    assert kept.headers == {name: value for name, value in request.headers.items()
                            if name in receive_module.KEPT_HEADERS}  # fmt: skip
    wanted = resource(process.database, notice.ref.external_id)
    assert (wanted.kind, wanted.wanted, wanted.environment) == (notice.ref.kind, 1, "sandbox")
    assert wanted.due_at is not None
    assert rows(process.database, delivery_resources)[0].delivery_id == receipt.delivery_id
    assert (process.nudges, process.spool.depth()) == ([provider], (0, 0))
    assert process.receive(provider, request).status == "duplicate"


def test_what_is_unreadable_or_ignored_is_answered_so_and_stored_so(process):
    process.database.away = True
    notice, _ = process.request("persona")
    for body, state in (
        (b"not json", "unreadable"),
        (b'{"type": "new", "object": {"_id": "66b1f0a2c4d5e6f708192a3b"}}', "ignored"),
    ):
        provider = "persona" if state == "unreadable" else "verifik"
        sent = sign(CREDENTIALS, replace(notice, body=body, ref=replace(notice.ref, provider=provider)))
        token = [*sent.path.split("/")[3:], None][0]
        headers = {name.lower(): value for name, value in sent.headers.items()}
        assert process.receive(provider, InboundRequest(body, headers, token)).status == state

    process.database.away = False
    process.spooling.look()

    assert sorted(row.state for row in rows(process.database, deliveries)) == ["ignored", "unreadable"]
    assert rows(process.database, resources) == []


def test_once_it_was_seen_away_the_database_is_not_asked_by_requests(process):
    process.database.away = True
    process.receive("persona")
    asked = process.database.asked

    for _ in range(5):
        process.receive("gu1")
    with pytest.raises(AuthenticationFailed):
        process.receive("gu1", process.request("gu1", Flaw.NO_SIGNATURE)[1])

    assert process.database.asked == asked
    assert process.spool.depth().deliveries == 6
    assert rows(process.database, quarantined_deliveries) == []

    process.database.away = False
    process.spooling.look()
    assert process.receive("gu1").spooled is False


def test_they_are_handed_over_in_the_order_of_their_arrival(process, monkeypatch):
    monkeypatch.setattr("worker.store.spool.BATCH_ROWS", 3)
    process.database.away = True
    sent = [process.receive("gu1").delivery_id for _ in range(10)]
    process.database.away = False

    class Enough(Exception):
        pass

    for expected in (3, 6, 9, 10):

        def stop_after_one(_source):
            raise Enough

        process.spooling._nudge = stop_after_one
        with pytest.raises(Enough):
            process.spooling.look()
        assert set(stored(process.database)) == set(sent[:expected])
    by_time = sorted(rows(process.database, deliveries), key=lambda row: row.received_at)
    assert [row.id for row in by_time] == sent


def send_twice(process, provider):
    """A delivery, and a repeat of it, both while the database is away; then one more repeat that the database gets."""
    _, request = process.request(provider)
    process.database.away = True
    first, second = process.receive(provider, request), process.receive(provider, request)
    process.database.away = False
    return first, second


@pytest.mark.parametrize("provider", ["persona", "gu1"])
@pytest.mark.parametrize("end", ["not recorded", "recorded"])
def test_a_process_that_dies_while_it_hands_over_loses_and_repeats_nothing(process, provider, end, monkeypatch):
    """It dies before the database's commit, or between that and forgetting; a repeat must count once all the same."""
    first, _ = send_twice(process, provider)
    if end == "recorded":
        monkeypatch.setattr(process.spool, "forget", raiser(KeyboardInterrupt))
    else:
        process.spooling._record = raiser(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        process.spooling.look()
    assert process.spool.depth().deliveries == 2
    assert len(stored(process.database)) == (1 if end == "recorded" else 0)

    successor = process.died()
    successor.spooling.look()
    successor.spooling.look()

    [row] = rows(process.database, deliveries)
    assert (row.id, row.repeats) == (first.delivery_id, 1)
    assert [found.wanted for found in rows(process.database, resources)] == [2 if provider == "gu1" else 1]
    assert successor.spool.depth() == (0, 0)
    successor.spooling.stop()


def raiser(error):
    def fail(*_):
        raise error

    return fail


def test_a_batch_whose_commit_is_cut_off_is_recorded_once(process):
    first, _ = send_twice(process, "gu1")
    process.database.cut = 1
    process.spooling.look()
    assert (process.database.cut, process.spooling.away, len(stored(process.database))) == (0, True, 0)

    # After the probe the batch is.
    ask = process.spooling._ask_database

    def ask_and_cut():
        ask()
        process.database.cut = 1

    process.spooling._ask_database = ask_and_cut
    process.spooling.look()
    assert (process.database.cut, process.spooling.away, len(stored(process.database))) == (0, True, 1)
    assert process.spool.depth().deliveries == 2

    process.spooling._ask_database = ask
    process.spooling.look()

    [row] = rows(process.database, deliveries)
    assert (row.id, row.repeats, process.spooling.away) == (first.delivery_id, 1, False)
    assert process.spool.depth() == (0, 0)


@pytest.mark.parametrize("provider", ["persona", "gu1"])
def test_a_delivery_whose_commit_succeeded_unheard_is_one_delivery(process, provider):
    notice, request = process.request(provider)
    process.database.cut = 1

    receipt = process.receive(provider, request)

    assert receipt.spooled
    assert set(stored(process.database)) == {receipt.delivery_id}
    process.spooling.look()
    [row] = rows(process.database, deliveries)
    assert (row.repeats, row.last_repeat_at) == (0, None)
    assert resource(process.database, notice.ref.external_id).wanted == 1
    assert process.spool.depth() == (0, 0)


def test_a_database_that_hangs_is_waited_for_once_and_briefly(process, monkeypatch):
    monkeypatch.setattr(receive_module, "SPOOL_AFTER", 0.3)
    process.database.hangs = threading.Event()
    requests = [process.request("gu1")[1] for _ in range(6)]
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(process.receive, "gu1", requests[0])
        while not process.database.asked:
            threading.Event().wait(0.005)

        began = monotonic()
        second = process.receive("gu1", requests[1])
        assert monotonic() - began < 2
        began = monotonic()
        others = [process.receive("gu1", request) for request in requests[2:]]
        assert monotonic() - began < 1

        process.database.hangs.set()
        first = leader.result(20)
    process.spooling.look()

    assert [receipt.spooled for receipt in (first, second, *others)] == [False, *[True] * 5]
    assert set(stored(process.database)) == {receipt.delivery_id for receipt in (first, second, *others)}
    assert sum(row.repeats for row in rows(process.database, deliveries)) == 0


def test_requests_that_come_together_share_the_disk_s_commits(process, monkeypatch):
    process.database.away = True
    process.receive("gu1")
    groups = []
    append = process.spool.append

    def count_and_append(group):
        groups.append(len(group))
        return append(group)

    process.spooling._appends._commit = count_and_append
    requests = [process.request("gu1")[1] for _ in range(60)]
    together = threading.Barrier(20)

    def send(request):
        together.wait(10)
        return process.receive("gu1", request).status

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(send, requests)) == {"accepted"}
    assert sum(groups) == 60
    assert len(groups) < 60
    process.database.away = False
    process.spooling.look()
    assert len(stored(process.database)) == 61


def test_over_the_limit_a_webhook_is_refused_as_unavailable_and_said_once(shaky, tmp_path):
    process = Process(shaky, tmp_path / "spool", max_bytes=3000)
    shaky.away = True
    with capture_logs() as logs:
        answers = []
        for _ in range(12):
            try:
                answers.append(process.receive("gu1").delivery_id)
            except IntakeUnavailable as refusal:
                answers.append(refusal.status)
    taken = [answer for answer in answers if answer != 503]
    assert 0 < len(taken) < 12
    assert answers == [*taken, *[503] * (12 - len(taken))]
    assert process.spool.depth().bytes <= 3000
    assert [line["event"] for line in logs if line["event"] != "delivery_received"] == [
        "spooling_began", "spool_trouble",
    ]  # fmt: skip

    shaky.away = False
    with capture_logs() as logs:
        process.spooling.look()
    assert set(stored(shaky)) == set(taken)
    assert {line["event"] for line in logs} == {"spooling_ended", "spool_handed_over", "spool_trouble_over"}
    process.spooling.stop()


def test_a_spool_that_cannot_be_used_does_not_hide_that_the_database_is_back(shaky, tmp_path):
    (tmp_path / "spool").touch()
    process = Process(shaky, tmp_path / "spool")
    shaky.away = True
    with pytest.raises(IntakeUnavailable, match="neither"):
        process.receive("gu1")
    assert process.spooling.trouble() == "the spool cannot be used: Not a directory"

    shaky.away = False
    process.spooling.look()

    assert not process.spooling.away
    assert process.receive("gu1").spooled is False


def test_too_many_requests_are_no_outage(process, monkeypatch):
    monkeypatch.setattr(group_commit, "MOST_WAITING", 0)

    with pytest.raises(IntakeUnavailable, match="too many"):
        process.receive("gu1")

    assert process.spool.depth().deliveries == 0
    assert not process.spooling.away


def test_a_deadlock_is_no_outage(process):
    crossed = Exception()
    crossed.sqlstate = "40P01"  # type: ignore[attr-defined]

    process.spooling.found_away(OperationalError("", {}, crossed))

    assert not process.spooling.away


def test_a_source_that_is_gone_from_the_settings_loses_nothing_and_blocks_nobody(process):
    gone = replace(arrival("evt_1", source="gone"), body=b"first")
    process.database.away = True
    process.spooling.keep(gone)
    other = process.receive("gu1")
    process.database.away = False

    process.spooling.look()

    assert set(stored(process.database)) == {gone.id, other.delivery_id}
    assert resource(process.database, "inq_1").source == "gone"


def test_a_row_that_this_release_cannot_read_is_kept_for_people(process):
    good, strange = arrival("evt_1"), replace(arrival("evt_2"), body=b"strange")
    row = pack(strange)
    process.spool.append([Kept(row.head.replace('"inq_1"', '"../inq"'), row.body), pack(good)])

    process.spooling.look()

    found = stored(process.database)
    assert found[good.id].state == "accepted"
    assert (found[strange.id].state, found[strange.id].reason) == (
        "unreadable", "could not be read from the spool: ValueError",
    )  # fmt: skip
    assert b"strange" in [body.body for body in rows(process.database, delivery_bodies)]


def test_what_the_database_refuses_is_kept_unread_and_blocks_nobody(process):
    """Its neighbours are recorded as they are, in the same transaction."""
    with process.database.write() as session:
        trigger = {"sqlite": "CREATE TRIGGER t BEFORE INSERT ON deliveries WHEN new.event_type = 'bad' "
                             "BEGIN SELECT RAISE(ABORT, 'no'); END",
                   "postgresql": "ALTER TABLE deliveries ADD CONSTRAINT t CHECK (event_type <> 'bad')"}  # fmt: skip
        session.execute(text(trigger[session.get_bind().dialect.name]))
    try:
        group = [arrival("evt_1"), replace(arrival("evt_2", event_type="bad"), body=b"refused"), arrival("evt_3")]
        process.spool.append([pack(item) for item in group])
        process.spooling.look()
    finally:
        if not process.database.is_sqlite:
            with process.database.write() as session:
                session.execute(text("ALTER TABLE deliveries DROP CONSTRAINT t"))

    found = stored(process.database)
    assert [found[item.id].state for item in group] == ["accepted", "unreadable", "accepted"]
    assert found[group[1].id].reason == "could not be stored as read: IntegrityError"
    assert process.spool.depth() == (0, 0)


def test_a_database_without_this_release_s_schema_gets_nothing_and_that_is_said(process):
    process.database.away = True
    receipt = process.receive("gu1")
    process.database.away = False
    with process.database.write() as session:
        [revision] = session.execute(text("SELECT version_num FROM alembic_version")).scalars()
        session.execute(text("DELETE FROM alembic_version"))
    try:
        process.spooling.look()
        assert process.spooling.away
        assert "run `verisink migrate`" in str(process.spooling.trouble())
        assert process.receive("gu1").spooled
    finally:
        with process.database.write() as session:
            session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})

    process.spooling.look()

    assert process.spooling.trouble() is None
    assert receipt.delivery_id in stored(process.database)


def test_one_process_hands_over_and_the_others_see_that_the_database_is_back(process):
    other = process.died()
    process.database.away = True
    mine, theirs = process.receive("gu1"), other.receive("persona")
    process.database.away = False

    with process.spool.draining():
        other.spooling.look()
        assert not other.spooling.away
        assert stored(process.database) == {}
    other.spooling.look()

    assert set(stored(process.database)) == {mine.delivery_id, theirs.delivery_id}
    assert process.spooling.away
    process.spooling.look()
    assert not process.spooling.away
    other.spooling.stop()


def test_a_thread_hands_over_what_an_earlier_process_left(process):
    process.database.away = True
    receipt = process.receive("gu1")
    process.spooling.stop()
    process.database.away = False
    successor = process.died()

    successor.spooling.start()
    ends = monotonic() + 20
    while not stored(process.database) and monotonic() < ends:
        threading.Event().wait(0.02)
    successor.spooling.stop()

    assert set(stored(process.database)) == {receipt.delivery_id}


def test_the_metrics_say_how_much_is_kept(process):
    def gauges():
        return tuple(REGISTRY.get_sample_value(f"verisink_spool_{name}") for name in ("deliveries", "bytes"))

    process.database.away = True
    for _ in range(3):
        process.receive("gu1")
    process.spooling.look()
    assert gauges() == tuple(process.spool.depth())
    assert gauges()[0] == 3

    process.database.away = False
    process.spooling.look()
    assert gauges() == (0, 0)


def test_a_host_s_clock_that_is_ahead_makes_no_delivery_of_the_future(process):
    ahead = replace(arrival("evt_1"), received_at=now(process.database) + timedelta(hours=1))
    process.spool.append([pack(ahead)])

    process.spooling.look()

    assert stored(process.database)[ahead.id].received_at <= now(process.database)


def test_no_body_and_no_secret_is_logged(process):
    process.database.away = True
    with capture_logs() as logs:
        for provider in KINDS:
            process.receive(provider)
        process.database.away = False
        process.spooling.look()

    said = str(logs)
    assert "canary" not in said
    assert CREDENTIALS.verifik_webhook_token not in said
    assert [line["event"] for line in logs if line["event"] != "delivery_received"] == [
        "spooling_began", "spooling_ended", "spool_handed_over",
    ]  # fmt: skip


def test_what_is_packed_is_unpacked_the_same():
    plain = replace(arrival("evt_1", "inq_1", "inq_2", looks_again=True), body=bytes(range(256)))
    odd = replace(plain, headers={"user-agent": "\u00e9\ud800\x00"}, received_at=None)

    for item in (plain, odd):
        assert unpack(pack(item)) == item
        assert pack(item).head.isascii()


def test_without_a_spool_all_is_as_before(shaky):
    shaky.away = True
    receiver = Receiver(shaky, SOURCES, providers(), lambda _source: None)
    request = InboundRequest(b"", {})
    with pytest.raises(AuthenticationFailed):
        receiver.receive("gu1", request)
    with pytest.raises(IntakeUnavailable, match="the database is not available"):
        receiver._store(SOURCES["gu1"], arrival())
