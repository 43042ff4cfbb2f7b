"""Arrays that we pack arrive as PostgreSQL's own."""

import struct
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.store.arrays import bigints, binaries, booleans, doubles, integers, jsons, smallints, texts, times, uuids

pytestmark = pytest.mark.postgres

SUMMER = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("pack", "kind", "values"),
    [
        (texts, "text", []),
        (texts, "text", [None]),
        (texts, "text", ["", "NULL", None, '{"a", \\ é 漢 \U0001f600', "x" * 100_000]),
        (uuids, "uuid", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.uuid4()]),
        (texts, "text", ["the same"] * 3),
        (texts, "text", [None] * 3),
        (booleans, "boolean", [True, None, False]),
        (smallints, "smallint", [None, -(2**15), 0, 2**15 - 1]),
        (integers, "integer", [None, -(2**31), 0, 2**31 - 1]),
        (bigints, "bigint", [None, -(2**63), 0, 2**63 - 1]),
        (bigints, "bigint", [7] * 3),
        (doubles, "double precision", [None, 0.1, -1e300, 5e-324]),
        (binaries, "bytea", [None, b"", b"\x00\\x00{}", bytes(range(256))]),
        (times, "timestamptz", [datetime(2026, 7, 1, tzinfo=UTC)] * 3),
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


def test_json_arrives_as_what_it_says(postgres_database):
    given = jsons([b'{"a": [1, 2.5, null, "\xc3\xa9 \\" "]}', None, b"[]"])
    with postgres_database.at_once() as connection:
        rows = connection.exec_driver_sql("SELECT unnest(%(given)s::jsonb[])", {"given": given}).scalars().all()

    assert rows == [{"a": [1, 2.5, None, 'é " ']}, None, []]


def test_equal_fractions_keep_their_signs(postgres_database):
    with postgres_database.at_once() as connection:
        rows = connection.exec_driver_sql("SELECT %(given)s::float8[]::text", {"given": doubles([0.0, -0.0])}).scalar()

    assert rows == "{0,-0}"


@pytest.mark.parametrize(("pack", "most"), [(smallints, 2**15), (integers, 2**31), (bigints, 2**63)])
def test_numbers_that_are_too_large_are_refused_before_anything_is_sent(pack, most):
    with pytest.raises(struct.error):
        pack([0, most])


def test_lone_surrogates_are_refused_before_anything_is_sent():
    with pytest.raises(UnicodeEncodeError):
        texts(["\ud800"])
