"""Receiving: what a provider may send, what is kept of it, and what it is answered."""

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError
from structlog.testing import capture_logs

from tests.pipeline.plant import CREDENTIALS, KINDS, settings
from tests.store.play import arrival, claim, key, resource, rows, want
from web.simulator.notifications import Flaw, compose, sign
from web.simulator.world import World
from worker.domain.states import Cause
from worker.errors import AuthenticationFailed, IntakeUnavailable, UnknownSource
from worker.pipeline import receive as receive_module
from worker.pipeline.receive import Receiver
from worker.providers.base import InboundRequest
from worker.providers.persona import PersonaProvider
from worker.providers.registry import providers
from worker.store.engine import Database, database_time
from worker.store.resources import Want, lock_claimed, mark_wanted
from worker.store.tables import (
    deliveries,
    delivery_bodies,
    quarantined_deliveries,
    resources,
)

SOURCES = settings("https://provider.example").sources


class Office:
    """A receiver, and a world whose providers write to it."""

    def __init__(self, database, known=None) -> None:
        self.database = database
        self.world = World(3)
        self.nudges: list[str] = []
        self.receiver = Receiver(database, SOURCES, {**providers(), **(known or {})}, self.nudges.append)

    def notice(self, provider):
        return compose(self.world, self.world.create(provider, KINDS[provider]))

    def request(self, notice, flaw=None, **headers):
        sent = sign(CREDENTIALS, notice, flaw=flaw)
        parts = sent.path.split("/")[3:]
        found = {name.lower(): value for name, value in sent.headers.items()}
        return InboundRequest(sent.body, {**found, **headers}, parts[0] if parts else None)

    def receive(self, provider, request):
        return self.receiver.receive(provider, request)

    def deliver(self, provider, body, **headers):
        """An authentic delivery of these bytes."""
        notice = replace(self.notice(provider), body=body)
        return self.receive(provider, self.request(notice, **headers))


@pytest.fixture
def office(sqlite_database, monkeypatch):
    monkeypatch.setattr(receive_module, "QUARANTINE_PAUSE", 0.0)
    return Office(sqlite_database)


@pytest.mark.parametrize("provider", KINDS)
def test_a_delivery_is_kept_wanted_and_nudged_for(office, provider):
    notice = office.notice(provider)

    receipt = office.receive(provider, office.request(notice))

    assert receipt.status == "accepted"
    [row] = rows(office.database, deliveries)
    assert (row.id, row.source, row.state, row.reason) == (receipt.delivery_id, provider, "accepted", None)
    assert rows(office.database, delivery_bodies)[0].body == notice.body
    wanted = resource(office.database, notice.ref.external_id)
    assert (wanted.source, wanted.kind, wanted.provider, wanted.environment) == (
        provider, notice.ref.kind, provider, "sandbox",
    )  # fmt: skip
    assert office.nudges == [provider]


@pytest.mark.parametrize("provider", KINDS)
def test_a_repeat_is_a_duplicate_and_is_nudged_for(office, provider):
    request = office.request(office.notice(provider))
    first = office.receive(provider, request)

    again = office.receive(provider, request)

    assert (again.delivery_id, again.status) == (first.delivery_id, "duplicate")
    assert office.nudges == [provider, provider]
    looks_again = provider != "persona"
    assert rows(office.database, resources)[0].wanted == (2 if looks_again else 1)


@pytest.mark.parametrize(
    ("provider", "flaw"),
    [
        *((provider, flaw) for provider in KINDS for flaw in (Flaw.WRONG_SIGNATURE, Flaw.NO_SIGNATURE)),
        ("persona", Flaw.TAMPERED_BODY),
        ("persona", Flaw.OLD_TIMESTAMP),
        ("gu1", Flaw.TAMPERED_BODY),
    ],
)
def test_what_is_not_proved_is_refused_and_kept_in_quarantine(office, provider, flaw):
    request = office.request(office.notice(provider), flaw)

    with pytest.raises(AuthenticationFailed) as refusal:
        office.receive(provider, request)

    assert rows(office.database, deliveries) == rows(office.database, resources) == []
    [kept] = rows(office.database, quarantined_deliveries)
    assert (kept.source, kept.reason, kept.body_bytes) == (provider, str(refusal.value), len(request.body))
    assert request.body.startswith(kept.body_start)
    assert kept.header_names == sorted(request.headers)
    assert office.nudges == []
    secrets = (CREDENTIALS.verifik_webhook_token, CREDENTIALS.gu1_webhook_secret, *request.headers.values())
    assert not [secret for secret in secrets if len(secret) > 8 and secret in str(kept)]


def test_a_flood_of_bad_requests_is_not_all_kept(office, monkeypatch):
    monkeypatch.setattr(receive_module, "QUARANTINE_PAUSE", 60.0)
    request = office.request(office.notice("gu1"), Flaw.NO_SIGNATURE)
    for _ in range(50):
        with pytest.raises(AuthenticationFailed):
            office.receive("gu1", request)

    assert len(rows(office.database, quarantined_deliveries)) == 1


def refused_deliveries(source):
    return REGISTRY.get_sample_value("verisink_deliveries_total", {"source": source, "status": "refused"}) or 0


def test_a_flood_of_bad_requests_is_logged_in_a_line_now_and_then_and_counted_exactly(office, monkeypatch):
    time = [1_000.0]
    monkeypatch.setattr(receive_module, "QUARANTINE_PAUSE", 60.0)
    monkeypatch.setattr(receive_module, "monotonic", lambda: time[0])
    bad = {provider: office.request(office.notice(provider), Flaw.NO_SIGNATURE) for provider in ("gu1", "persona")}
    counted = refused_deliveries("gu1")

    def refuse(provider, times):
        for _ in range(times):
            with pytest.raises(AuthenticationFailed):
                office.receive(provider, bad[provider])

    with capture_logs() as logs:
        refuse("gu1", 50)
        refuse("persona", 1)
        time[0] += 61
        refuse("gu1", 3)

    lines = [(line["source"], line["refusals"]) for line in logs if line["event"] == "delivery_refused"]
    assert lines == [("gu1", 1), ("persona", 1), ("gu1", 50)]
    assert refused_deliveries("gu1") == counted + 53


def test_nobody_else_is_received_for(office):
    with pytest.raises(UnknownSource):
        office.receive("nobody", InboundRequest(b"{}"))


@pytest.mark.parametrize("provider", ["persona", "gu1", "yoti"])
def test_a_token_in_the_url_of_a_provider_that_has_none_is_an_unknown_path(office, provider):
    request = replace(office.request(office.notice(provider)), token="extra")

    with pytest.raises(UnknownSource):
        office.receive(provider, request)
    assert rows(office.database, quarantined_deliveries) == []


@pytest.mark.parametrize("token", ["", None, "wrong", CREDENTIALS.verifik_webhook_token + "x", "\ud800"])
def test_the_token_in_the_url_is_the_proof(office, token):
    request = replace(office.request(office.notice("verifik")), token=token)

    with pytest.raises(AuthenticationFailed):
        office.receive("verifik", request)


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"null", b'{"a": 1, "a": 2}', b"\xff\xfe", b'\xef\xbb\xbf{"a": 1}', b"[" * 100_000,
     b'{"data": {"id": "evt_1", "id": "evt_2"}}'],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
@pytest.mark.parametrize("provider", KINDS)
def test_authentic_bytes_that_say_nothing_are_kept_for_people_to_read(office, provider, body):
    receipt = office.deliver(provider, body)

    assert receipt.status == "unreadable"
    [row] = rows(office.database, deliveries)
    assert row.state == "unreadable"
    assert row.reason
    assert rows(office.database, delivery_bodies)[0].body == body
    assert rows(office.database, resources) == []
    assert office.nudges == []
    assert office.deliver(provider, body).status == "duplicate"


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity"])
def test_a_compressed_body_is_kept_as_it_came(office, encoding):
    packed = gzip.compress(office.notice("gu1").body)

    receipt = office.deliver("gu1", packed, **{"content-encoding": encoding})

    assert receipt.status == "unreadable"
    assert "compressed" in rows(office.database, deliveries)[0].reason
    assert rows(office.database, delivery_bodies)[0].body == packed


def test_identity_is_no_compression(office):
    assert office.deliver("gu1", office.notice("gu1").body, **{"content-encoding": " Identity "}).status == "accepted"


def test_what_is_not_for_us_is_ignored_with_a_reason(office):
    body = b'{"type": "something_else", "object": {"_id": "66b1f0a2c4d5e6f708192a3b"}}'

    assert office.deliver("verifik", body).status == "ignored"
    [row] = rows(office.database, deliveries)
    assert (row.state, row.reason) == ("ignored", "unknown event type")
    assert office.nudges == []


def test_a_key_that_no_index_would_take_is_unreadable(office, monkeypatch):
    monkeypatch.setattr(receive_module, "LONGEST_KEY", 10)

    assert office.receive("persona", office.request(office.notice("persona"))).status == "unreadable"
    assert rows(office.database, deliveries)[0].reason == "the event id is too long"


def test_of_the_head_only_what_helps_is_kept_and_no_credential(office):
    for provider in KINDS:
        request = office.request(office.notice(provider), None, cookie="canary", **{"x-request-id": "r-1"})
        office.receive(provider, request)

    kept = rows(office.database, delivery_bodies)
    assert len(kept) == 4
    for row in kept:
        assert set(row.headers) <= receive_module.KEPT_HEADERS
        assert row.headers["x-request-id"] == "r-1"
        assert not {"authorization", "cookie"} & set(row.headers)
    assert CREDENTIALS.verifik_webhook_token not in str(kept)


def test_no_secret_and_no_body_is_logged(office):
    with capture_logs() as logs:
        for provider in KINDS:
            office.receive(provider, office.request(office.notice(provider)))
            with pytest.raises(AuthenticationFailed):
                office.receive(provider, office.request(office.notice(provider), Flaw.WRONG_SIGNATURE))

    known = set(CREDENTIALS.persona_webhook_secrets) | {
        CREDENTIALS.verifik_webhook_token, CREDENTIALS.gu1_webhook_secret, CREDENTIALS.yoti_notification_token,
        "wrong-token", "wrong:token",
    }  # fmt: skip
    assert len(logs) == 8
    assert not [secret for secret in known if secret in str(logs)]


class Confused(PersonaProvider):
    """A parser with a bug."""

    def parse(self, source, body):
        raise AttributeError("Maria")


def test_a_bug_in_a_parser_loses_nothing(sqlite_database):
    office = Office(sqlite_database, {"persona": Confused()})
    notice = office.notice("persona")

    with capture_logs() as logs:
        receipt = office.receive("persona", office.request(notice))

    assert receipt.status == "unreadable"
    assert rows(sqlite_database, delivery_bodies)[0].body == notice.body
    assert "AttributeError" in rows(sqlite_database, deliveries)[0].reason
    assert "Maria" not in str((logs, rows(sqlite_database, deliveries)))


class Failing(Database):
    """A database that cannot write, or not everything."""

    error: type[Exception] = OperationalError
    times = 10**6

    def write(self):
        if self.times:
            self.times -= 1
            raise self.error("", {}, Exception("canary"))
        return super().write()


@pytest.fixture
def failing(sqlite_database):
    handle = Failing(sqlite_database.engine.url.render_as_string())
    yield handle
    handle.dispose()


def test_our_own_trouble_is_not_the_providers(failing):
    office = Office(failing)
    request = office.request(office.notice("gu1"))

    with pytest.raises(IntakeUnavailable) as refusal:
        office.receive("gu1", request)

    assert (refusal.value.status, office.nudges) == (503, [])
    assert "canary" not in str(refusal.value)
    with pytest.raises(AuthenticationFailed):
        office.receive("gu1", replace(request, headers={}))


def test_what_a_database_refuses_is_kept_unread(failing):
    failing.error, failing.times = DataError, 1
    office = Office(failing)
    notice = office.notice("gu1")

    receipt = office.receive("gu1", office.request(notice))

    assert receipt.status == "unreadable"
    assert rows(failing, delivery_bodies)[0].body == notice.body
    assert rows(failing, deliveries)[0].reason == "could not be stored as read: DataError"


def test_requests_that_come_together_are_all_stored(anywhere):
    office = Office(anywhere.database)
    requests = [office.request(office.notice("gu1")) for _ in range(60)]
    together = threading.Barrier(20)

    def send(request):
        together.wait(10)
        return office.receive("gu1", request).status

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(send, requests)) == {"accepted"}
    assert len(rows(anywhere.database, deliveries)) == len(rows(anywhere.database, resources)) == 60


def somebody_waits_for_a_lock(database):
    with database.read() as session:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return session.execute(waiting).scalar_one() > 0


@pytest.mark.postgres
def test_a_delivery_that_crosses_a_result_being_written_is_not_refused(postgres_database):
    """A writer holds an inquiry and wants its report; the delivery has locked the report and wants the inquiry."""
    office = Office(postgres_database)
    want(postgres_database, "inq_1", "a_report", source="persona")
    _, held = sorted(claim(postgres_database, source="persona"), key=lambda found: found.key)
    related = {key("a_report", source="persona"): Want("persona", "sandbox", Cause.DISCOVERED)}
    crossing = arrival("evt_1", "a_report", "inq_1", source="persona")

    with ThreadPoolExecutor(1) as pool:
        with suppress(OperationalError), postgres_database.write() as session:
            lock_claimed(session, [held])
            sent = pool.submit(office.receiver._store, SOURCES["persona"], crossing)
            while not somebody_waits_for_a_lock(postgres_database):
                threading.Event().wait(0.005)
            mark_wanted(session, related, database_time(session))
        assert sent.result(20).status == "accepted"
