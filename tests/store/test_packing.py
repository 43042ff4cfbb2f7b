"""Every column of every table can be written together with others, and what no database can hold is mended first."""

import pytest
from sqlalchemy import Interval

from worker.store import arrays
from worker.store.all_tables import metadata
from worker.store.packing import packing
from worker.store.tables import checks, deliveries


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_has_a_packing(table):
    assert all(packing(column.type)([None]).data for column in table.c)


def test_a_type_that_nobody_thought_of_is_refused():
    with pytest.raises(TypeError, match="Interval"):
        packing(Interval())


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
