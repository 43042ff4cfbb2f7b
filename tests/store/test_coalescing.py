"""What was read a moment ago waits for more notifications of it, so that one more call answers them all."""

from datetime import timedelta

from tests.store.play import OTHER, SOURCE, claim, claim_one, key, now, resource, set_resource, want
from tests.support.writing import settle
from worker.domain.states import Cause
from worker.store import resources
from worker.store.engine import database_time
from worker.store.resources import Want

PAUSE = {SOURCE: timedelta(seconds=30)}


def want_with_pause(database, *, pause=PAUSE):
    with database.write() as session:
        wants = {key("inq_1"): Want("persona", "sandbox", Cause.WEBHOOK)}
        resources.mark_wanted(session, wants, database_time(session), coalesce=pause)


def read(database):
    """Reads the resource now."""
    want(database)
    held = claim_one(database)
    with database.write() as session:
        settle(session, held)


def test_what_was_never_read_is_due_at_once(database):
    want_with_pause(database)

    assert len(claim(database)) == 1


def test_what_was_read_just_now_is_due_after_a_pause(database):
    read(database)

    want_with_pause(database)

    due_at = resource(database).due_at
    assert timedelta(seconds=25) < due_at - now(database) <= timedelta(seconds=30)

    want_with_pause(database)
    assert resource(database).due_at > due_at, "more news is waited for"


def test_what_was_read_longer_ago_is_due_at_once(database):
    read(database)
    set_resource(database, "inq_1", read_started_at=now(database) - timedelta(seconds=31))

    want_with_pause(database)

    assert len(claim(database)) == 1


def test_another_source_s_pause_is_not_waited_for(database):
    read(database)

    want_with_pause(database, pause={OTHER: timedelta(seconds=30)})

    assert len(claim(database)) == 1


def test_who_asks_by_hand_does_not_wait(database):
    read(database)
    want_with_pause(database)

    want(database)

    assert len(claim(database)) == 1


def test_news_does_not_put_off_what_is_due_already(database):
    read(database)
    want(database)
    due_at = resource(database).due_at

    want_with_pause(database)

    assert (resource(database).due_at, resource(database).wanted) == (due_at, 3)


def test_waiting_for_silence_has_an_end(database):
    read(database)
    want_with_pause(database)
    due_at = now(database) + timedelta(seconds=5)
    set_resource(database, "inq_1", wanted_since=now(database) - timedelta(minutes=3), due_at=due_at)

    want_with_pause(database)

    assert resource(database).due_at == due_at


def test_what_waits_for_silence_goes_on_when_its_reading_is_no_longer_fresh(database):
    read(database)
    want_with_pause(database)
    set_resource(database, "inq_1", read_started_at=now(database) - timedelta(seconds=40))

    want_with_pause(database)

    assert resource(database).due_at - now(database) > timedelta(seconds=25)


def test_a_retry_is_not_put_off_by_news(database):
    read(database)
    want_with_pause(database)
    old = now(database) - timedelta(minutes=1)
    set_resource(database, "inq_1", read_started_at=old, failures=3, due_at=now(database) + timedelta(hours=1))

    want_with_pause(database)

    assert len(claim(database)) == 1
