"""A scrape is answered whatever the database does, soon, and with names that are configured or ours."""

import threading
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from tests.support.results import fail, key, settings, want
from tests.support.services import free_port
from worker import exposition
from worker.errors import CannotListen
from worker.exposition import Exposition
from worker.metrics import UNCONFIGURED


def samples(shown):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(shown.text().decode())
        for sample in family.samples
    }


def value(shown, name, **labels):
    return samples(shown).get((name, frozenset(labels.items())))


@pytest.fixture
def shown(database_url, monkeypatch):
    made = Exposition(settings(database_url), lambda _: 42)
    yield made
    made.close()


def count_statements(shown):
    seen: list[str] = []
    event.listen(shown._reader._database.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    return seen


def test_it_shows_the_database_the_budget_and_the_build(shown, database):
    fail(database, key("ver_1"))

    assert value(shown, "verisink_database_up") == 1
    assert value(shown, "verisink_open_resources", source="persona-live", state="parked") == 1
    assert value(shown, "verisink_budget_left_calls", source="gu1-test") == 42
    found = samples(shown)
    assert any(name == "verisink_build_info" for name, _ in found)
    assert any(name == "verisink_schema_info" for name, _ in found)
    assert any(name == "verisink_ack_seconds_bucket" for name, _ in found)


def test_scrapes_that_follow_each_other_ask_the_database_once(shown):
    seen = count_statements(shown)
    shown.text()
    first = len(seen)

    for _ in range(5):
        shown.text()

    assert 0 < first < 30
    assert len(seen) == first


def test_names_from_elsewhere_make_no_series(shown, database):
    """However many sources there ever were: what grows with data makes Prometheus fall over."""
    for number in range(20):
        want(database, key(f"fm_{number}", "face-match", f"old-{number}"))

    names = {dict(labels).get("source") for _, labels in samples(shown)}

    assert not any(str(name).startswith("old-") for name in names)
    assert value(shown, "verisink_open_resources", source=UNCONFIGURED, state="waiting") == 20


def test_without_a_database_the_counters_are_readable():
    shown = Exposition(settings(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"), None)

    assert value(shown, "verisink_database_up") == 0
    assert value(shown, "verisink_requests_shed_total") is not None
    assert not any(name == "verisink_open_resources" for name, _ in samples(shown))
    shown.close()


def test_a_database_without_our_schema_cannot_be_used(tmp_path):
    shown = Exposition(settings(f"sqlite:///{tmp_path / 'empty.db'}"), None)

    assert value(shown, "verisink_database_up") == 0
    shown.close()


def test_a_database_that_hangs_is_not_waited_for(shown, monkeypatch):
    """What was read a moment ago is shown, and not for ever; and no thread is left waiting for each scrape."""
    monkeypatch.setattr(exposition, "WAIT_SECONDS", 0.1)
    hangs = threading.Event()
    calls = []

    def hang(*_):
        calls.append(1)
        hangs.wait(30)
        raise RuntimeError

    monkeypatch.setattr(exposition, "gauges", hang)
    began = time.monotonic()
    for _ in range(3):
        assert value(shown, "verisink_database_up") == 0
    assert time.monotonic() - began < 5
    assert len(calls) == 1
    monkeypatch.undo()
    hangs.set()


def test_what_is_too_old_is_not_shown(shown, monkeypatch):
    assert value(shown, "verisink_database_up") == 1

    monkeypatch.setattr(exposition, "BELIEVED_SECONDS", 0.0)

    assert value(shown, "verisink_database_up") == 0


def test_a_port_of_its_own_answers_and_is_closed_again(database_url):
    shown = Exposition(settings(database_url, metrics_port=0))

    with shown.served() as url:
        answer = httpx.get(str(url), trust_env=False)
        assert answer.status_code == 200
        assert "verisink_database_up 1.0" in answer.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(str(url), trust_env=False)


def test_a_port_that_is_taken_is_said(database_url):
    shown = Exposition(settings(database_url, metrics_port=0))
    with shown.served() as url:
        taken = int(str(url).rsplit(":", 1)[1].split("/")[0])
        again = Exposition(settings(database_url, metrics_port=taken))
        with pytest.raises(CannotListen, match=str(taken)), again.served():
            pass
        again.close()
