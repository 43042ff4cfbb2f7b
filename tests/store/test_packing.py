"""Every column of every table can be written together with others, and what no database can hold is mended first."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Interval, select
from sqlalchemy.exc import DataError

from worker.store import arrays
from worker.store.all_tables import metadata
from worker.store.bulk import Insertion, insert_rows
from worker.store.engine import Database
from worker.store.packing import packing
from worker.store.tables import audit_entries, checks, deliveries, leases


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_has_a_packing(table):
    assert all(packing(column.type)([None]).data for column in table.c)


def test_a_type_that_nobody_thought_of_is_refused():
    with pytest.raises(TypeError, match="Interval"):
        packing(Interval())


def test_true_and_one_are_equal_and_two_things():
    assert (
        packing(checks.c.details.type)([{"a": True}, {"a": 1}]).data == arrays.jsons([b'{"a":true}', b'{"a":1}']).data
    )


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_what_is_no_number_is_none(score):
    assert packing(checks.c.score.type)([0.5, score]).data == arrays.doubles([0.5, None]).data


@pytest.mark.postgres
def test_what_is_too_long_is_refused_and_not_cut_off(postgres_database):
    row = {"name": "source", "holder": "h" * 129, "expires_at": datetime(2026, 1, 1, tzinfo=UTC)}

    with pytest.raises(DataError, match="too long"), postgres_database.write() as session:
        insert_rows(session, Insertion(leases), [row])


@pytest.mark.postgres
def test_letters_arrive_whatever_the_environment_takes_for_its_encoding(postgres_database, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    row = {
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "actor": "José",
        "action": "a",
        "subject": "€",
        "details": {"é": "ü"},
    }
    another = Database(postgres_database.engine.url.render_as_string(hide_password=False))
    try:
        with another.write() as session:
            insert_rows(session, Insertion(audit_entries), [row])
    finally:
        another.dispose()

    monkeypatch.delenv("PGCLIENTENCODING")
    with postgres_database.read() as session:
        [kept] = session.execute(select(audit_entries))
    assert (kept.actor, kept.subject, kept.details) == ("José", "€", {"é": "ü"})


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a\x00b", "a\ufffdb"), ("\ud800", "\ufffd"), ("é", "é"), ("", "")],
    ids=["NUL", "lone surrogate", "beyond ASCII", "empty"],
)
@pytest.mark.parametrize("column", [deliveries.c.reason, checks.c.outcome], ids=["free text", "a word of ours"])
def test_texts_are_mended(column, text, kept):
    assert packing(column.type)(["before", None, text]).data == arrays.texts(["before", None, kept]).data


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": "\x00"}, b'{"a": "\\ufffd"}'),
        ({"\ud800": 1}, b'{"\\ufffd": 1}'),
        ({"a": 2**70}, b'{"a": 1180591620717411303424}'),
        ({"a": ["\\u0000"]}, b'{"a": ["\\\\u0000"]}'),
    ],
    ids=["NUL", "lone surrogate", "large number", "what only looks like NUL"],
)
def test_json_is_mended(value, written):
    # Whatever else is written with it is written as if it stood alone, be it in other bytes.
    assert packing(checks.c.details.type)([None, value]).data == arrays.jsons([None, written]).data
