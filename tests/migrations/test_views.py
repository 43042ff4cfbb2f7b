"""The results database that others read: its views are a contract."""

import pytest
from alembic import command
from sqlalchemy import inspect

from tests.store.conftest import database, database_url, migrated_postgres_url, sqlite_template
from tests.store.play import APPROVED, CREATED, number_all, reading, retrieved
from worker.domain.model import Check
from worker.domain.states import CheckOutcome
from worker.store import migration, schema
from worker.store.engine import Database
from worker.store.views import VIEWS

__all__ = ["database", "database_url", "migrated_postgres_url", "sqlite_template"]

PROMISED = {
    "v1_results": [
        "source", "provider", "environment", "kind", "external_id", "reference", "stage", "outcome", "final",
        "provider_status", "score", "version", "mapping_version", "provider_created_at", "provider_updated_at",
        "completed_at", "first_seen_at", "retrieved_at", "document",
    ],
    "v1_checks": [
        "source", "kind", "external_id", "version", "name", "outcome", "provider_outcome", "score", "threshold",
        "required", "reasons",
    ],
    "v1_history": [
        "source", "kind", "external_id", "version", "stage", "outcome", "provider_status", "retrieved_at", "cause",
        "document_sha256",
    ],
    "v1_events": [
        "sequence", "id", "type", "source", "kind", "external_id", "version", "stage", "outcome", "occurred_at", "data",
    ],
}  # fmt: skip
"""What was promised, in this order. Columns may follow; none of these may go, move or change its name."""


def test_every_view_is_promised():
    assert set(VIEWS) == set(PROMISED)


@pytest.mark.parametrize("view", PROMISED)
def test_the_columns_are_those_that_were_promised(database, view):
    columns = [column["name"] for column in inspect(database.engine).get_columns(view)]

    assert columns[: len(PROMISED[view])] == PROMISED[view]


def select(database, view):
    with database.read() as session:
        return session.connection().exec_driver_sql(f"SELECT * FROM {view}").mappings().all()  # noqa: S608


def test_a_consumer_sees_results_checks_history_and_events(database):
    check = Check("selfie", CheckOutcome.FAILED, score=0.25, reasons=("blurred",))
    retrieved(database, found=reading(CREATED), a=1)
    retrieved(database, found=reading(APPROVED, checks=(check,), reference="case-7", score=2.5), a=2)

    [result] = select(database, "v1_results")
    assert (result["source"], result["kind"], result["external_id"]) == ("persona-live", "inquiry", "inq_1")
    assert (result["stage"], result["outcome"], result["version"]) == ("decided", "approved", 2)
    assert (result["reference"], result["score"], result["provider"]) == ("case-7", 2.5, "persona")
    [seen] = select(database, "v1_checks")
    assert (seen["version"], seen["name"], seen["outcome"], seen["score"]) == (2, "selfie", "failed", 0.25)
    assert [(row["version"], row["stage"], row["cause"]) for row in select(database, "v1_history")] == [
        (1, "created", "webhook"),
        (2, "decided", "webhook"),
    ]
    assert select(database, "v1_events") == [], "an event is shown once it has its number"
    number_all(database)
    assert [(row["sequence"], row["type"]) for row in select(database, "v1_events")] == [
        (1, "verification.result.created"),
        (2, "verification.result.decided"),
    ]


@pytest.mark.postgres
def test_what_consumers_built_on_a_view_outlives_every_migration(postgres_url):
    """Dropping a view to make it anew would take the grants with it, or fail where somebody has a view of their own."""
    database = Database(postgres_url)
    try:
        command.upgrade(migration.config(database.writer, schema.MIGRATIONS), "0001")
        with database.writer.begin() as connection:
            for view in PROMISED:
                connection.exec_driver_sql(f"CREATE VIEW on_{view} AS SELECT * FROM {view}")  # noqa: S608
                connection.exec_driver_sql(f"GRANT SELECT ON {view} TO PUBLIC")

        schema.migrate(database)

        with database.writer.begin() as connection:
            for view in PROMISED:
                assert connection.exec_driver_sql(f"SELECT count(*) FROM on_{view}").scalar() == 0  # noqa: S608
                granted = connection.exec_driver_sql("SELECT relacl::text FROM pg_class WHERE relname = %s", (view,))
                assert "=r/" in granted.scalar_one()
                options = connection.exec_driver_sql("SELECT reloptions FROM pg_class WHERE relname = %s", (view,))
                assert options.scalar_one() is None, "a view reads with its owner's rights"
    finally:
        database.dispose()
