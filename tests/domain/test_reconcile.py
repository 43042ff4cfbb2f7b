"""What one entry of a provider's list means: a table, and what holds for every entry."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.model import ResourceRef
from worker.domain.reconcile import LAG, Found, Judgement, Standing, Tally, is_due_for_reread, judge

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REF = ResourceRef("inquiry", "inq_1")
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def ago(span: timedelta) -> datetime:
    return NOW - span


def event(at: timedelta = HOUR, **more) -> Found:
    return Found(REF, ago(at), delivery_key="evt_1", **more)


def row(at: timedelta | None = HOUR, **more) -> Found:
    return Found(REF, None if at is None else ago(at), exact=at is not None, **more)


def settled(read: timedelta = HOUR, updated: timedelta | None = None, **more) -> Standing:
    updated_at = None if updated is None else ago(updated)
    return Standing(False, read_started_at=ago(read), provider_updated_at=updated_at, **more)


def parked(at: timedelta, **more) -> Standing:
    return Standing(False, parked_at=ago(at), **more)


KNOWN, MISSING, OLD, PARKED, YOUNG, UNASKED = (
    Judgement.KNOWN, Judgement.MISSING, Judgement.OUTDATED, Judgement.PARKED, Judgement.YOUNG, Judgement.UNASKED,
)  # fmt: skip

TABLE = [
    # what is not known here
    (row(), None, False, MISSING),
    (row(None), None, False, MISSING),
    (event(), None, False, MISSING),
    (event(), None, True, MISSING),
    (event(adds=False), None, False, UNASKED),
    # what may still be on its way
    (row(LAG - SECOND), None, False, YOUNG),
    (row(LAG), None, False, MISSING),
    (event(-HOUR), settled(), False, YOUNG),
    # work that is open looks again anyway
    (row(), Standing(True), False, KNOWN),
    (event(), Standing(True, read_started_at=ago(2 * HOUR)), False, KNOWN),
    # the document's own updated time, by one clock
    (row(HOUR), settled(updated=HOUR), False, KNOWN),
    (row(HOUR - SECOND), settled(updated=HOUR), False, OLD),
    (row(HOUR + SECOND), settled(updated=HOUR), False, KNOWN),
    (row(HOUR), settled(read=HOUR, updated=None), False, OLD),
    (row(HOUR), settled(read=HOUR - LAG, updated=None), False, KNOWN),
    (row(None), settled(), False, KNOWN),
    # events, by two clocks and by whether their webhook has arrived
    (event(HOUR), settled(read=2 * HOUR), False, OLD),
    (event(HOUR), settled(read=2 * HOUR), True, KNOWN),
    (event(HOUR), settled(read=HOUR - LAG), False, KNOWN),
    (event(HOUR), settled(read=HOUR - LAG + SECOND), False, OLD),
    (event(HOUR, adds=False), settled(read=2 * HOUR), False, OLD),
    (event(HOUR), Standing(False), False, OLD),
    # a time of creation alone says nothing about changes, but a status does
    (Found(REF, ago(HOUR)), settled(read=2 * HOUR), False, KNOWN),
    (Found(REF, ago(HOUR), status="in_review"), settled(provider_status="in_review"), False, KNOWN),
    (Found(REF, ago(HOUR), status="approved"), settled(provider_status="in_review"), False, OLD),
    (Found(REF, None, status="approved"), settled(provider_status=None), False, KNOWN),
    # parked for a reason
    (row(HOUR), parked(HOUR - SECOND), False, PARKED),
    (row(HOUR), parked(HOUR + SECOND), False, OLD),
    (row(None), parked(HOUR), False, PARKED),
    (event(HOUR), parked(2 * HOUR), True, PARKED),
    (event(HOUR), parked(2 * HOUR), False, OLD),
    (event(HOUR), parked(2 * HOUR, poison=True), False, PARKED),
]


@pytest.mark.parametrize(("found", "standing", "delivered", "judgement"), TABLE)
def test_judgements(found, standing, delivered, judgement):
    assert judge(found, standing, NOW, delivered=delivered) == judgement


def test_the_table_knows_every_judgement():
    assert {line[3] for line in TABLE} == set(Judgement)


SPANS = st.integers(0, 10**7).map(lambda seconds: timedelta(seconds=seconds))


@given(st.builds(Found, st.just(REF), SPANS.map(ago), st.booleans(), st.none() | st.just("evt_1")), SPANS, SPANS)
def test_what_was_read_after_the_run_began_is_not_news_to_the_next(found, later, longer):
    """Two runs in a row would otherwise ask for the same document again and again."""
    read_at = NOW + later
    standing = Standing(False, read_started_at=read_at, provider_updated_at=found.changed_at if found.exact else None)

    again = judge(found, standing, read_at + longer, delivered=False)

    first = judge(found, None, NOW, delivered=False)
    assert first in (Judgement.MISSING, Judgement.YOUNG)
    if first is Judgement.MISSING:
        assert again is Judgement.KNOWN


@pytest.mark.parametrize(
    ("unchanged", "unread", "due"),
    [
        (timedelta(0), timedelta(minutes=9), False),
        (timedelta(0), timedelta(minutes=10), True),
        (timedelta(hours=4), timedelta(hours=1), False),
        (timedelta(hours=4), timedelta(hours=2), True),
        (timedelta(days=20), timedelta(hours=23), False),
        (timedelta(days=20), timedelta(days=1), True),
    ],
)
def test_what_stays_the_same_is_read_more_and_more_seldom(unchanged, unread, due):
    retrieved = NOW - unread

    assert is_due_for_reread(retrieved - unchanged, retrieved, NOW) is due


def test_the_loss_rate_is_of_what_webhooks_tell_of():
    assert Tally(listed=10, announced=8, lost=2).loss_rate == 0.25
    assert Tally(listed=10, missing=10).loss_rate is None
