"""The growth scenario's databases are what Verisink would have made, and each of its operations works on them."""

import pytest
from sqlalchemy import func, select

from bench.growth_operations import OPERATIONS, Subject
from bench.growth_rows import fill, fillings
from tests.store.databases import migrate
from worker.domain.model import ResourceKey, ResourceRef
from worker.reports import resources, results, status
from worker.reports.resources import DeliveryFilter
from worker.reports.results import ResultFilter
from worker.store.all_tables import metadata

DELIVERIES = 4_800

pytestmark = pytest.mark.postgres


@pytest.fixture
def subject(postgres_url):
    migrate(postgres_url)
    fill(postgres_url.replace("+psycopg", ""), DELIVERIES)
    made = Subject(postgres_url)
    yield made
    made.close()


def test_the_rows_are_as_many_and_as_they_should_be(subject, postgres_server, postgres_url):
    counts = {filling.table: filling.rows for filling in fillings(DELIVERIES)}

    name = postgres_url.rsplit("/", 1)[1]
    found = {
        table: postgres_server.execute(str(select(func.count()).select_from(metadata.tables[table])), name)
        for table in counts
    }
    assert found == {table: [(rows,)] for table, rows in counts.items()}
    assert (counts["deliveries"], counts["resources"], counts["results"]) == (4_800, 1_200, 1_200)
    with subject.database.read() as session:
        [newest] = results.page(session, ResultFilter(), limit=1, newest_first=True).items
        story = resources.story(session, ResourceKey(newest.source, ResourceRef(newest.kind, newest.external_id)))
        assert story is not None
        assert [len(lines) for lines in (story.versions, story.attempts, story.deliveries, story.events)] == [
            1,
            2,
            4,
            2,
        ]
        standing = status.status(session, ("yoti-live",))
        assert (standing.waiting, standing.parked, standing.unreadable) == (0, 400, 400)
        assert len(resources.deliveries(session, DeliveryFilter(event_type="inquiry.completed"), limit=50)) == 50


SCHEMA = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2, 3
"""


def test_every_constraint_and_index_is_there_again(postgres_server, postgres_url):
    migrate(postgres_url)
    name = postgres_url.rsplit("/", 1)[1]
    before = postgres_server.execute(SCHEMA, name)

    fill(postgres_url.replace("+psycopg", ""), DELIVERIES)

    assert len(before) > 50
    assert postgres_server.execute(SCHEMA, name) == before


def test_every_operation_is_measured(subject):
    sample = subject.sample(2)

    assert sample.keys() == {f"{name}_{unit}" for name in OPERATIONS for unit in ("ms", "cpu_ms", "pages")}
    assert {name: value for name, value in sample.items() if value <= 0} == {}
