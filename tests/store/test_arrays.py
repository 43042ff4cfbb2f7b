"""Arrays that we pack arrive as PostgreSQL's own."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.store.arrays import binaries, texts, times, uuids

pytestmark = pytest.mark.postgres

SUMMER = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("pack", "kind", "values"),
    [
        (texts, "text", []),
        (texts, "text", [None]),
        (texts, "text", ["", "NULL", None, '{"a", \\ é 漢 \U0001f600', "x" * 100_000]),
        (uuids, "uuid", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.uuid4()]),
        (binaries, "bytea", [b"", b"\x00\\x00{}", bytes(range(256))]),
        (
            times,
            "timestamptz",
            [
                None,
                datetime(1970, 1, 1, tzinfo=UTC),
                datetime(1, 1, 1, tzinfo=UTC),
                datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
                datetime(2026, 7, 1, 12, 0, 0, 1, tzinfo=SUMMER),
            ],
        ),
    ],
)
def test_what_is_packed_arrives(postgres_database, pack, kind, values):
    with postgres_database.at_once() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT pg_typeof(%(given)s)::text, %(given)s::{kind}[]", {"given": pack(values)}
        ).all()

    assert rows == [(f"{'timestamp with time zone' if kind == 'timestamptz' else kind}[]", values)]


def test_lone_surrogates_are_refused_before_anything_is_sent():
    with pytest.raises(UnicodeEncodeError):
        texts(["\ud800"])
