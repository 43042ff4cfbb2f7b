"""Fills a database as if Verisink had run for a year: N deliveries, and all that they would have led to.

The rows are made by PostgreSQL itself and go through COPY into tables without indexes, which are built afterwards: ten
million deliveries take minutes, where recording them would take an hour.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

DELIVERIES_OF_A_RESOURCE = 4
"""Providers tell of a verification when it is created, started, completed and decided."""

OPEN_ROWS = 400
"""Resources that are parked, results that are not final, and deliveries that could not be read, in a database of any
size: trouble does not grow with what went well."""

CHUNK_BYTES = 1 << 20

FIRST_DAY = 1_735_689_600
SPAN_SECONDS = 364 * 86_400
"""The rows are spread over the year 2025, so all of it is old enough to be pruned."""

_RANDOM_ID = "substr(md5({0}::text), 1, 24)"
_EVENT_ID = "'evt_' || " + _RANDOM_ID.format("n")
_SOURCE = "(ARRAY['persona-live', 'verifik-live', 'gu1-live', 'yoti-live'])[1 + {0} % 4]"
_WHEN = f"to_timestamp({FIRST_DAY} + {{0}} * ({SPAN_SECONDS}::float8 / {{1}}))"

SOURCES = ("persona-live", "verifik-live", "gu1-live", "yoti-live")
KIND = "inquiry"


@dataclass(frozen=True, slots=True)
class Filling:
    """What goes into one table: `rows` of these columns, which are expressions of `n`, counted from 1."""

    table: str
    rows: int
    columns: dict[str, str]


def external_id(resource: int | str) -> str:
    """SQL: the provider's id of a resource."""
    return "'inq_' || " + _RANDOM_ID.format(resource)


def fillings(deliveries: int) -> Sequence[Filling]:
    """What all tables hold. Every second resource has two versions."""
    resources = deliveries // DELIVERIES_OF_A_RESOURCE // 2 * 2
    count = resources * DELIVERIES_OF_A_RESOURCE
    versions = resources // 2 * 3
    return (
        Filling("resources", resources, _resources(resources)),
        Filling("deliveries", count, _deliveries(count)),
        Filling("delivery_bodies", count, _bodies(count)),
        Filling(
            "delivery_resources", count, {"resource_id": _resource_of_delivery("n"), "delivery_id": _uuid("n", count)}
        ),
        Filling("attempts", 2 * resources, _attempts(2 * resources)),
        Filling("versions", versions, _versions(versions)),
        Filling("version_bodies", versions, {"version_id": "n", "body": "decode(repeat(md5(n::text), 12), 'hex')"}),
        Filling("checks", 2 * versions, _checks()),
        Filling("results", resources, _results(resources)),
        Filling(
            "result_documents", resources, {"resource_id": "n", "document": "jsonb_build_object('id', md5(n::text))"}
        ),
        Filling("events", 2 * resources, _events(2 * resources)),
        Filling("event_deliveries", 2 * resources, _event_deliveries(2 * resources)),
        Filling("expectations", resources // 2, _expectations(resources // 2)),
        Filling("audit_entries", resources // 100, _audit(resources // 100)),
    )


def _uuid(number: str, count: int) -> str:
    """An id that sorts by time, as those of deliveries do."""
    milliseconds = f"({FIRST_DAY}000 + ({number}) * {1000 * SPAN_SECONDS // count}::bigint)"
    return f"(lpad(to_hex({milliseconds}), 12, '0') || '70008000' || lpad(to_hex({number}), 12, '0'))::uuid"


def _resource_of_delivery(number: str) -> str:
    return f"1 + ({number} - 1) / {DELIVERIES_OF_A_RESOURCE}"


def _resources(count: int) -> dict[str, str]:
    parked = f"n <= {OPEN_ROWS}"
    when = _WHEN.format("n", count)
    return {
        "id": "n", "source": _SOURCE.format("n"), "provider": "split_part(" + _SOURCE.format("n") + ", '-', 1)",
        "environment": "'live'", "kind": f"'{KIND}'", "external_id": external_id("n"), "created_at": when,
        "cause": "'webhook'", "priority": "0", "wanted": "4", "retrieved": f"CASE WHEN {parked} THEN 3 ELSE 4 END",
        "wanted_since": f"CASE WHEN {parked} THEN {when} END", "attempts": "2", "version": "1 + n % 2",
        "read_started_at": when, "provider_updated_at": when, "parked_at": f"CASE WHEN {parked} THEN {when} END",
        "park_reason": f"CASE WHEN {parked} THEN 'gone' END", "park_step": f"CASE WHEN {parked} THEN 'call' END",
        "park_fingerprint": f"CASE WHEN {parked} THEN substr(md5((n % 5)::text), 1, 16) END",
    }  # fmt: skip


def _deliveries(count: int) -> dict[str, str]:
    resource = f"({_resource_of_delivery('n')})"
    return {
        "id": _uuid("n", count), "source": _SOURCE.format(resource), "delivery_key": _EVENT_ID, "event_id": _EVENT_ID,
        "event_type": "'inquiry.completed'",
        "state": f"CASE WHEN n <= {OPEN_ROWS} THEN 'unreadable' WHEN n % 100 = 0 THEN 'ignored' ELSE 'accepted' END",
        "reason": f"CASE WHEN n <= {OPEN_ROWS} THEN 'no id' END", "body_sha256": "md5(n::text) || md5((n + 1)::text)",
        "occurred_at": _WHEN.format("n", count), "received_at": _WHEN.format("n", count),
    }  # fmt: skip


def _bodies(count: int) -> dict[str, str]:
    return {
        "delivery_id": _uuid("n", count),
        "body": "decode(repeat(md5(n::text), 12), 'hex')",
        "headers": """'{"content-type": "application/json"}'::jsonb""",
    }


def _attempts(count: int) -> dict[str, str]:
    when = _WHEN.format("n", count)
    return {
        "id": "n", "resource_id": "1 + (n - 1) / 2", "number": "1 + (n - 1) % 2", "cause": "'webhook'",
        "started_at": when, "finished_at": when, "outcome": "CASE WHEN n % 2 = 1 THEN 'stored' ELSE 'unchanged' END",
    }  # fmt: skip


def _versions(count: int) -> dict[str, str]:
    when = _WHEN.format("n", count)
    return {
        "id": "n", "resource_id": "1 + (n - 1) / 3 * 2 + (n - 1) % 3 / 2", "number": "1 + (n - 1) % 3 % 2",
        "document_sha256": "md5(n::text) || md5(n::text)", "content_sha256": "md5(n::text) || md5(n::text)",
        "redacted": "false", "api_version": "'2025-12-08'", "read_started_at": when, "retrieved_at": when,
        "cause": "'webhook'", "attempt": "1", "stage": "'decided'", "outcome": "'approved'", "final": "true",
        "provider_status": "'approved'", "mapping_version": "1",
    }  # fmt: skip


def _checks() -> dict[str, str]:
    return {
        "version_id": "1 + (n - 1) / 2", "position": "(n - 1) % 2", "name": "'document'", "outcome": "'passed'",
        "reasons": "'[]'::jsonb", "details": "'{}'::jsonb",
    }  # fmt: skip


def _results(count: int) -> dict[str, str]:
    when = _WHEN.format("n", count)
    return {
        "resource_id": "n", "version": "1 + n % 2", "mapping_version": "1", "stage": "'decided'",
        "outcome": "(ARRAY['approved', 'rejected'])[1 + n % 2]", "final": f"n <= {count - OPEN_ROWS}",
        "derived": "false", "provider_status": "'approved'", "reference": "'customer-' || n",
        "provider_updated_at": when, "completed_at": when, "retrieved_at": when, "updated_at": when,
    }  # fmt: skip


def _events(count: int) -> dict[str, str]:
    resource = "1 + (n - 1) / 2"
    return {
        "position": "n", "id": "md5(n::text)::uuid::text", "sequence": "n", "type": "'verification.result.decided'",
        "source": _SOURCE.format(f"({resource})"), "kind": f"'{KIND}'", "external_id": external_id(f"({resource})"),
        "version": "1", "stage": "'decided'", "outcome": "'approved'", "occurred_at": _WHEN.format("n", count),
        "data": "jsonb_build_object('version', 1, 'stage', 'decided', 'outcome', 'approved')",
    }  # fmt: skip


def _event_deliveries(count: int) -> dict[str, str]:
    return {"sink": "'log'", "sequence": "n", "attempts": "1", "delivered_at": _WHEN.format("n", count)}


def _expectations(count: int) -> dict[str, str]:
    when = _WHEN.format("n", count)
    return {
        "id": _uuid("n", count), "source": _SOURCE.format("n"), "kind": f"'{KIND}'", "reference": "'customer-' || n",
        "deadline": when, "actor": "'bench'", "state": "'met'", "created_at": when, "closed_at": when,
        "resource_id": "n",
    }  # fmt: skip


def _audit(count: int) -> dict[str, str]:
    return {
        "id": "n", "occurred_at": _WHEN.format("n", count), "actor": "'bench'", "action": "'hold'",
        "subject": "'persona-live'", "details": "'{}'::jsonb",
    }  # fmt: skip


def fill(url: str, deliveries: int) -> None:
    """Fill a migrated database that is empty. `url` is libpq's."""
    with psycopg.connect(url, autocommit=True) as source, psycopg.connect(url, autocommit=True) as target:
        for connection in (source, target):
            connection.execute("SET statement_timeout = 0; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'")
            connection.execute("SET max_parallel_maintenance_workers = 2; SET max_parallel_workers_per_gather = 2")
        with _without_indexes(target):
            for filling in fillings(deliveries):
                _copy(source, target, filling)
        events = 2 * (deliveries // DELIVERIES_OF_A_RESOURCE // 2 * 2)
        target.execute("UPDATE cursors SET value = %s WHERE name = 'events'", [events])
        target.execute("INSERT INTO cursors (name, value) VALUES ('sink:log', %s)", [events])
        target.execute("ANALYZE")


def _copy(source: psycopg.Connection, target: psycopg.Connection, filling: Filling) -> None:
    expressions = ", ".join(f"{expression} AS {name}" for name, expression in filling.columns.items())
    select = f"SELECT {expressions} FROM generate_series(1, {filling.rows}) AS n"  # noqa: S608 - of this module alone
    names = sql.SQL(", ").join(map(sql.Identifier, filling.columns))
    table = sql.Identifier(filling.table)
    types = _types(target, filling)
    cast = ", ".join(f"{name}::{types[name]}" for name in filling.columns)
    select = f"SELECT {cast} FROM ({select}) AS made"  # noqa: S608 - of this module alone
    with target.transaction():
        # A table that was emptied in the same transaction takes frozen rows, which nobody has to visit again.
        target.execute(sql.SQL("TRUNCATE {} CASCADE").format(table))
        reading = source.cursor().copy(f"COPY ({select}) TO STDOUT (FORMAT BINARY)".encode())
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY, FREEZE)").format(table, names)
        with reading as rows, target.cursor().copy(into) as writing:
            for chunk in _large(rows):
                writing.write(chunk)
    identity = [name for name in filling.columns if name in ("id", "position") and types[name] == "bigint"]
    for name in identity:
        target.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [filling.table, name, filling.rows + 1])


def _large(rows: "psycopg.Copy") -> Iterator[bytes]:
    """Rows come one by one, and to hand each on by itself would take longer than making it."""
    waiting: list[bytes] = []
    size = 0
    for row in rows:
        waiting.append(bytes(row))
        size += len(row)
        if size > CHUNK_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    yield b"".join(waiting)


def _types(connection: psycopg.Connection, filling: Filling) -> dict[str, str]:
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        [filling.table],
    )
    return {str(name): str(kind) for name, kind in found}


@contextmanager
def _without_indexes(connection: psycopg.Connection) -> Iterator[None]:
    """Take constraints and indexes away, and make them again: building an index at once beats growing it."""
    constraints = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'p', 'u') "
        "AND conrelid <> 'alembic_version'::regclass ORDER BY contype <> 'f', conname"
    ).fetchall()
    for table, name, _, _ in constraints:
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'.encode())
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f'DROP INDEX "{name}"'.encode())
    yield
    for table, name, definition, kind in reversed(constraints):
        # That every row refers to another is so by construction, and to look for each would take minutes.
        unseen = " NOT VALID" if kind == "f" else ""
        connection.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}{unseen}'.encode())
    connection.execute("UPDATE pg_constraint SET convalidated = true WHERE NOT convalidated")
    for _, definition in indexes:
        connection.execute(str(definition).encode())
