"""What the questions cost: those that say `by an index` read no growing table from end to end, on neither engine."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.store.conftest import database, database_url, migrated_postgres_url, sqlite_template
from worker.store.view_columns import VIEWS_DESCRIBED

__all__ = ["database", "database_url", "migrated_postgres_url", "sqlite_template"]

FOLDER = Path(__file__).resolve().parents[2] / "docs/questions"
FILES = sorted(path.name for path in FOLDER.glob("*.sql"))
TABLES = "checks|events|resources|result_documents|results|versions"
NAMES = ("r", "s", "d", "c", "v", "e")
"""What the views call their tables, which is what SQLite's plans say. No query may call anything else so."""

ASKED: dict[str, object] = {
    "since": "2026-01-09 00:00:00+00:00", "until": "2026-01-10 00:00:00+00:00", "at": "2026-01-09 00:00:00+00:00",
    "source": "source-1", "kind": "inquiry", "external_id": "id_7", "reference": "person-7", "zone": "UTC", "after": 50,
}  # fmt: skip

FILL = """
INSERT INTO resources (source, provider, environment, kind, external_id, created_at, cause, priority, wanted)
SELECT 'source-' || mod(n, 3), 'persona', 'live', 'inquiry', 'id_' || n, t, 'webhook', 0, 1 FROM numbers;
INSERT INTO versions (resource_id, number, document_sha256, content_sha256, redacted, read_started_at, retrieved_at,
                      cause, attempt, stage, outcome, final, mapping_version)
SELECT id, 1, '', '', false, created_at, created_at, 'webhook', 1, 'decided', 'approved', true, 1 FROM resources;
INSERT INTO results (resource_id, version, mapping_version, stage, outcome, final, derived, reference, retrieved_at,
                     updated_at, completed_at, provider_created_at)
SELECT id, 1, 1, 'decided', CASE WHEN mod(id, 2) = 0 THEN 'approved' ELSE 'rejected' END, mod(id, 100) <> 0, false,
       'person-' || id, created_at, created_at, created_at, created_at FROM resources;
INSERT INTO result_documents (resource_id, document) SELECT id, '{"like": "DOCUMENT"}' FROM resources;
INSERT INTO checks (version_id, position, name, outcome, reasons, details)
SELECT id, place, 'check', 'failed', '[]', '{}' FROM versions, (SELECT 0 AS place UNION SELECT 1) places;
INSERT INTO events (id, sequence, type, source, kind, external_id, version, stage, outcome, occurred_at, data)
SELECT 'event-' || id, id, 'verification.result.decided', source, kind, external_id, 1, 'decided', 'rejected',
       created_at, '{}' FROM resources;
""".replace("DOCUMENT", "a real one, whose size matters: small ones are read faster than looked up" * 15)

NUMBERS = {
    "postgresql": "CREATE TEMP TABLE numbers AS SELECT n, timestamptz '2026-01-10 00:00+00' - n * interval '600 s' AS t"
    " FROM generate_series(1, 6000) AS n",
    "sqlite": "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 6000) "
    "SELECT n, strftime('%Y-%m-%d %H:%M:%f', '2026-01-10', '-' || (n * 10) || ' minutes') || '000' AS t FROM n",
}


def engine_of(database):
    return "sqlite" if database.is_sqlite else "postgresql"


@pytest.fixture
def explain(database):
    """Plans on a database with many rows, which PostgreSQL has counted. Nothing of it is committed."""
    with database.write() as session:
        connection = session.connection()
        for statement in (NUMBERS[engine_of(database)], *FILL.split(";\n")):
            if statement.strip():
                connection.exec_driver_sql(statement)
        if not database.is_sqlite:
            connection.exec_driver_sql("ANALYZE")
            # A database of this size lies in memory, and a real one on no disk that turns.
            connection.exec_driver_sql("SET LOCAL random_page_cost = 1.1")
        word = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        yield lambda sql: [str(row[-1]) for row in session.execute(text(word + sql), asked(sql))]
        session.rollback()


def asked(sql):
    return {name: value for name, value in ASKED.items() if re.search(rf"(?<!:):{name}\b", sql)}


def scans(lines):
    # What is open has an index of its own, and to read all of that is what was asked.
    whole = rf"Seq Scan on ({TABLES})\b|^SCAN ({'|'.join(NAMES)})\b(?! USING INDEX ix_results_open)"
    return [line for line in lines if re.search(whole, line)]


def test_a_question_that_names_an_index_has_one(explain, database):
    found = {}
    for name in FILES:
        if (parts := name.split("."))[1] in ("sql", engine_of(database)):
            sql = (FOLDER / name).read_text("utf-8")
            found[parts[0]] = (" by an index" in " ".join(sql.split("\n--")), scans(explain(sql)))

    assert {name: lines for name, (indexed, lines) in found.items() if indexed and lines} == {}
    assert {name for name, (indexed, _) in found.items() if not indexed} == {"verdicts_as_of"}


def test_a_condition_that_the_page_calls_fast_is_answered_by_an_index(explain, database):
    values = {"source": "'source-1'", "sequence": "5990", "updated_at": "'2026-01-09 23:00:00+00:00'", "LIMIT": "9"}
    for view in VIEWS_DESCRIBED.values():
        for condition, _ in view.fast:
            filled = re.sub(r"(\w+) (=|>|>=) …", lambda m: f"{m[1]} {m[2]} {values.get(m[1], repr('7'))}", condition)
            filled = filled.replace("version = '7'", "version = 7").replace("LIMIT …", "LIMIT 9")
            lines = explain(f"SELECT * FROM {view.name} WHERE {filled}")  # noqa: S608
            assert scans(lines) == [], (view.name, condition)


def test_what_has_no_index_is_seen(explain):
    assert scans(explain("SELECT * FROM v1_results WHERE provider_status = 'x'")) != []
