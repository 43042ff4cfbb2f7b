"""Readers of results see each once, in order, and any version that ever was."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.results import (
    APPROVED,
    ERASED,
    KIND,
    LIVENESS,
    PENDING,
    REJECTED,
    SITUATION,
    SOURCE,
    claim,
    document,
    key,
    reading,
    store,
    want,
)
from tests.support.writing import write_document
from worker.domain.states import Outcome, Stage
from worker.reports import results
from worker.reports.cursor import BadCursor, decode, encode
from worker.reports.results import ResultFilter
from worker.store import query_results
from worker.store.query_results import Position

EVERYTHING = ResultFilter()


def ids(page):
    return [item.external_id for item in page.items]


def page(database, wanted=EVERYTHING, **options):
    with database.read() as session:
        return results.page(session, wanted, **{"limit": 50, **options})


def one(database, wanted, **options):
    with database.read() as session:
        return results.result(session, wanted, **options)


def history(database, wanted, **options):
    with database.read() as session:
        return results.history(session, wanted, **{"limit": 50, **options})


def test_an_empty_database_has_no_results(database):
    assert page(database) == results.ResultPage((), None)
    assert one(database, key("ver_1")) is None
    assert history(database, key("ver_1")) == ()


def test_a_result_is_listed_with_all_that_is_known_of_it(database):
    store(database, key("ver_1"), reading(APPROVED, derived=True))

    [item] = page(database).items

    assert (item.source, item.provider, item.environment, item.kind) == (SOURCE, "persona", "live", KIND)
    assert (item.stage, item.outcome, item.final, item.derived) == ("decided", "approved", True, True)
    assert (item.reference, item.score, item.version, item.mapping_version) == ("customer-1", 0.98, 1, 1)
    assert item.provider_created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert item.first_seen_at <= item.retrieved_at == item.updated_at


def test_a_wanted_resource_without_a_document_is_no_result(database):
    want(database, key("ver_1"))

    assert page(database).items == ()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ResultFilter(), ["ver_1", "ver_2", "fm_1"]),
        (ResultFilter(source=SOURCE), ["ver_1", "ver_2"]),
        (ResultFilter(provider="gu1"), ["fm_1"]),
        (ResultFilter(kind="face-match"), ["fm_1"]),
        (ResultFilter(stage=Stage.IN_PROGRESS), ["ver_2"]),
        (ResultFilter(outcome=Outcome.REJECTED), ["fm_1"]),
        (ResultFilter(reference="ключ 🔑"), ["ver_2"]),
        (ResultFilter(reference="nobody"), []),
        (ResultFilter(reference="nul\x00"), []),
        (ResultFilter(source=SOURCE, outcome=Outcome.REJECTED), []),
        (ResultFilter(updated_after=datetime(2020, 1, 1, tzinfo=UTC)), ["ver_1", "ver_2", "fm_1"]),
        (ResultFilter(updated_after=datetime(2120, 1, 1, tzinfo=UTC)), []),
    ],
)
def test_filters_narrow_the_list(database, wanted, expected):
    store(database, key("ver_1"))
    store(database, key("ver_2"), reading(PENDING, reference="ключ 🔑"))
    store(database, key("fm_1", "face-match", "gu1-test"), reading(REJECTED))

    assert ids(page(database, wanted)) == expected
    assert ids(page(database, wanted, newest_first=True)) == expected[::-1]


@pytest.fixture
def short_looks(monkeypatch):
    """Pages that look at three results where they take only some."""
    monkeypatch.setattr(query_results, "MOST_LOOKED_AT", 3)


def pages(database, wanted, **options):
    """All pages of a list, by its cursors."""
    found = [page(database, wanted, **options)]
    while found[-1].next_cursor is not None:
        found.append(page(database, wanted, after=found[-1].next_cursor, **options))
    return [ids(one) for one in found]


def test_a_page_of_what_is_rare_looks_so_far_and_the_next_goes_on_behind(database, short_looks):
    """Else the first page of what hardly exists would read every result there is."""
    rare = (1, 2, 8)
    for number in range(10):
        store(database, key(f"ver_{number}"), reading(REJECTED if number in rare else APPROVED))
    wanted = ResultFilter(outcome=Outcome.REJECTED)

    assert pages(database, wanted) == [["ver_1", "ver_2"], [], ["ver_8"], []]
    assert pages(database, wanted, newest_first=True) == [["ver_8"], [], ["ver_2", "ver_1"], []]
    assert pages(database, wanted, limit=1) == [["ver_1"], ["ver_2"], [], ["ver_8"]]
    assert pages(database, ResultFilter(reference="nobody")) == [[]], "that has an index"
    assert [len(one) for one in pages(database, EVERYTHING, limit=5)] == [5, 5], "nothing is passed over"
    with database.read() as session:
        found = results.newest(session, wanted, limit=2)
    assert [item.external_id for item in found] == ["ver_8", "ver_2"]


def test_a_page_of_what_is_rare_looks_no_further_than_the_time_that_was_asked_for(database, short_looks):
    for number in range(5):
        store(database, key(f"ver_{number}"))
    since = page(database).items[2].updated_at

    assert pages(database, ResultFilter(outcome=Outcome.REJECTED, updated_after=since)) == [[]]


def test_updated_after_is_exclusive(database):
    store(database, key("ver_1"))
    store(database, key("ver_2"))
    first, _ = page(database).items

    assert ids(page(database, ResultFilter(updated_after=first.updated_at))) == ["ver_2"]


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_join_into_the_whole_list(database, newest_first):
    for number in range(7):
        store(database, key(f"ver_{number}"))

    seen, cursor = [], None
    while True:
        found = page(database, limit=3, after=cursor, newest_first=newest_first)
        seen += ids(found)
        cursor = found.next_cursor
        if cursor is None:
            break

    expected = [f"ver_{number}" for number in range(7)]
    assert seen == (expected[::-1] if newest_first else expected)


def test_a_page_that_ends_with_the_list_has_no_next(database):
    store(database, key("ver_1"))
    store(database, key("ver_2"))

    assert page(database, limit=2).next_cursor is None
    assert page(database, limit=1).next_cursor is not None


def test_nothing_is_missed_while_results_change_between_pages(database):
    for number in range(4):
        store(database, key(f"ver_{number}"))
    first = page(database, limit=2)

    store(database, key("ver_0"), reading(REJECTED))
    store(database, key("ver_3"), reading(REJECTED))
    store(database, key("ver_new"))
    second = page(database, limit=2, after=first.next_cursor)
    third = page(database, limit=2, after=second.next_cursor)

    assert ids(first) == ["ver_0", "ver_1"]
    assert ids(second) + ids(third) == ["ver_2", "ver_0", "ver_3", "ver_new"]
    assert third.next_cursor is None


def test_an_unchanged_document_does_not_move_its_result(database):
    store(database, key("ver_1"), content={"same": 1})
    store(database, key("ver_2"))
    before, _ = page(database).items

    store(database, key("ver_1"), content={"same": 1})

    again, _ = page(database).items
    assert again.updated_at == before.updated_at
    assert again.retrieved_at > before.retrieved_at


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "MS4x",
        "ünïcode",
        "\x00",
        "MS4xLjE=\n",
        encode(Position(datetime(2026, 1, 1, tzinfo=UTC), 1))[:-2],
        "A" * 99,
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(cursor):
    with pytest.raises(BadCursor):
        decode(cursor)


@pytest.mark.parametrize("resource_id", [1, 10**17])
def test_a_cursor_names_its_place_exactly(resource_id):
    place = Position(datetime(2026, 11, 21, 10, 11, 12, 345678, tzinfo=UTC), resource_id)

    assert decode(encode(place)) == place


def test_one_result_has_its_checks_and_its_document(database):
    store(database, key("ver_1"), content={"name": "Zoë", "nested": {"n": [1, 2.5, None]}})

    found = one(database, key("ver_1"))

    assert found.document == {"name": "Zoë", "nested": {"n": [1, 2.5, None]}}
    [check] = found.checks
    assert (check.name, check.outcome, check.score, check.required) == ("liveness", "passed", 0.98, True)
    assert (check.reasons, check.details) == (["clear"], {"frames": 3})


def test_every_version_can_be_read_again(database):
    store(database, key("ver_1"), reading(PENDING, checks=()), {"now": "pending"})
    store(database, key("ver_1"), reading(APPROVED, reference="new"), {"now": "approved"})

    old, current = one(database, key("ver_1"), version=1), one(database, key("ver_1"), version=2)

    assert (old.stage, old.document, old.checks, old.reference) == ("in_progress", {"now": "pending"}, (), None)
    assert (current.stage, current.document, current.reference) == ("decided", {"now": "approved"}, "new")
    assert current == one(database, key("ver_1"))
    assert one(database, key("ver_1"), version=3) is None
    assert one(database, key("ver_2"), version=1) is None


def test_as_of_is_the_newest_version_retrieved_by_then(database):
    store(database, key("ver_1"), content={"number": 1})
    store(database, key("ver_1"), content={"number": 2})
    first, second = history(database, key("ver_1"))

    def document_at(moment):
        found = one(database, key("ver_1"), as_of=moment)
        return found and found.document["number"]

    assert document_at(first.retrieved_at - timedelta(milliseconds=1)) is None
    assert document_at(first.retrieved_at) == 1
    assert document_at(second.retrieved_at - timedelta(milliseconds=1)) == 1
    assert document_at(second.retrieved_at) == 2
    assert document_at(datetime(9999, 1, 1, tzinfo=UTC)) == 2
    assert document_at(datetime(1, 1, 1, tzinfo=UTC)) is None


def test_an_erased_version_keeps_its_verdict_and_nothing_personal(database):
    store(database, key("ver_1"), content={"name": "Ada"})
    store(database, key("ver_1"), reading(ERASED, checks=(), reference=None), {"redacted": True})

    old, current = one(database, key("ver_1"), version=1), one(database, key("ver_1"))

    assert (old.stage, old.outcome, old.document) == ("decided", "approved", None)
    [check] = old.checks
    assert (check.name, check.outcome, check.reasons, check.details) == ("liveness", LIVENESS.outcome, [], {})
    assert (current.stage, current.document) == ("erased", {"redacted": True})
    first, second = history(database, key("ver_1"))
    assert first.erased_at is not None
    assert second.erased_at is None


def test_text_that_a_database_cannot_hold_reads_the_same_from_every_version(database):
    content = json.loads(r'{"nul": "a\u0000b", "lone": "\ud800", "emoji": "🔑", "big": 123456789012345678901234567890}')
    store(database, key("ver_1"), content=content)

    current, kept = one(database, key("ver_1")), one(database, key("ver_1"), version=1)

    expected = {**content, "nul": "a\ufffdb", "lone": "\ufffd"}
    assert current.document == kept.document == expected


def test_history_is_paged_by_version_number(database):
    for number in range(3):
        store(database, key("ver_1"), content={"number": number})

    versions = history(database, key("ver_1"))

    assert [item.version for item in versions] == [1, 2, 3]
    assert [item.version for item in history(database, key("ver_1"), after=1, limit=1)] == [2]
    assert [item.version for item in history(database, key("ver_1"), limit=2, newest_first=True)] == [3, 2]
    assert versions[0].document_sha256 == document({"number": 0}).document_sha256
    assert (versions[0].cause, versions[0].api_version, versions[0].redacted) == ("webhook", "2025-12-08", False)


def test_a_late_write_of_another_resource_changes_nothing_here(database):
    store(database, key("ver_1"), content={"number": 1})
    want(database, key("ver_2"))
    slow = claim(database, key("ver_2"))
    time.sleep(0.003)
    store(database, key("ver_3"))
    with database.write() as session:
        write_document(session, slow, reading(REJECTED), document({"slow": True}), SITUATION)

    assert ids(page(database)) == ["ver_1", "ver_3", "ver_2"]
