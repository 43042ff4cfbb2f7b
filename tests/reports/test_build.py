"""Rows become JSON that every reader can read."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.reports.build import json_text, time_text


@dataclass(frozen=True, slots=True)
class Row:
    at: datetime
    id: uuid.UUID
    parts: tuple[object, ...]


def test_times_are_utc_with_a_z():
    moment = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=2)))

    assert time_text(moment) == "2026-01-02T01:04:05.000600Z"


def test_rows_in_rows_become_objects():
    row = Row(datetime(2026, 1, 2, tzinfo=UTC), uuid.UUID(int=7), ("é", None))

    text = json_text([Row(row.at, row.id, (row,))])

    assert text.isascii()
    assert json.loads(text)[0]["parts"][0] == {
        "at": "2026-01-02T00:00:00Z",
        "id": "00000000-0000-0000-0000-000000000007",
        "parts": ["é", None],
    }


@pytest.mark.parametrize("value", [object(), Row, {1, 2}])
def test_what_has_no_json_form_is_refused(value):
    with pytest.raises(TypeError):
        json_text(value)
