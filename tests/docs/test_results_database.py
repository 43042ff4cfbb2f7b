"""The page about the results database and the dbt sources are what the code says."""

from pathlib import Path

import pytest
import yaml

from worker.domain.states import CheckOutcome, EventType, Outcome, Stage
from worker.reports.results_database import dbt_sources, markdown
from worker.store.view_columns import VIEWS_DESCRIBED

ROOT = Path(__file__).resolve().parents[2]
DBT = ROOT / "examples/dbt"
STALE = "is not what the code says: run `make docs`"


@pytest.mark.parametrize(
    ("place", "made"), [("docs/results-database.md", markdown), ("examples/dbt/models/sources.yml", dbt_sources)]
)
def test_what_is_written_is_fresh(place, made):
    assert (ROOT / place).read_text("utf-8") == made(), f"{place} {STALE}"


def test_every_column_is_a_row_of_the_page():
    page = markdown()

    for view in VIEWS_DESCRIBED.values():
        section = page.split(f"## `{view.name}`")[1].split("\n## ")[0]
        rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
        assert [row[1].strip(" `") for row in rows] == [column.name for column in view.columns]
        assert {len(row) for row in rows} == {8}
        assert all(row[6].strip() for row in rows)


def tables():
    [source] = yaml.safe_load((DBT / "models/sources.yml").read_text("utf-8"))["sources"]
    return {table["name"]: table for table in source["tables"]}


def demands(column):
    """The names of a column's tests with their arguments."""
    found = [test if isinstance(test, dict) else {test: {}} for test in column.get("data_tests", [])]
    return {name: given.get("arguments", {}) for test in found for name, given in test.items()}


def test_the_dbt_sources_have_every_view_and_column():
    assert {name: [column["name"] for column in table["columns"]] for name, table in tables().items()} == {
        view.name: [column.name for column in view.columns] for view in VIEWS_DESCRIBED.values()
    }
    for name, table in tables().items():
        assert table["data_tests"] == [{"unique_together": {"arguments": {"columns": list(VIEWS_DESCRIBED[name].key)}}}]
    assert {name for name, table in tables().items() if "freshness" in table.get("config", {})} == {
        "v1_results",
        "v1_events",
    }


@pytest.mark.parametrize(
    ("view", "column", "vocabulary"),
    [
        ("v1_results", "stage", Stage),
        ("v1_history", "outcome", Outcome),
        ("v1_checks", "outcome", CheckOutcome),
        ("v1_events", "type", EventType),
    ],
)
def test_the_dbt_sources_know_the_vocabularies(view, column, vocabulary):
    [found] = [each for each in tables()[view]["columns"] if each["name"] == column]

    assert demands(found)["accepted_values"] == {"values": [str(word) for word in vocabulary]}


def test_dbt_expects_no_value_where_there_may_be_none():
    required = {
        (name, column["name"])
        for name, table in tables().items()
        for column in table["columns"]
        if "not_null" in demands(column)
    }

    assert ("v1_results", "document") in required
    assert ("v1_events", "sequence") in required
    assert required.isdisjoint({("v1_results", "reference"), ("v1_events", "kind"), ("v1_checks", "required")})


def test_dbt_can_leave_out_what_is_personal():
    """A role without personal data has no such column, so that its tests need a tag to be excluded by."""
    tagged = {
        (name, column["name"])
        for name, table in tables().items()
        for column in table["columns"]
        if column.get("config", {}).get("tags") == ["personal"]
    }

    assert tagged == {
        (view.name, column.name) for view in VIEWS_DESCRIBED.values() for column in view.columns if column.personal
    }
