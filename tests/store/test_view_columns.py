"""What is written about the columns of the results database is true of the databases that the migrations make."""

import pytest
from sqlalchemy import inspect

from worker.store.view_columns import VIEWS_DESCRIBED
from worker.store.views import VIEWS

COLUMNS = [(view.name, column) for view in VIEWS_DESCRIBED.values() for column in view.columns]


def types(database, view):
    """The columns of a view with the types that the database itself names."""
    with database.read() as session:
        connection = session.connection()
        if database.is_sqlite:
            return {row[1]: row[2] for row in connection.exec_driver_sql(f"PRAGMA table_info({view})")}
        rows = connection.exec_driver_sql(
            "SELECT attname, upper(format_type(atttypid, atttypmod)) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0",
            (view,),
        )
        return {name: kind.replace("CHARACTER VARYING", "VARCHAR") for name, kind in rows}


def test_every_view_is_described():
    assert list(VIEWS_DESCRIBED) == list(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_described_in_its_place_with_its_type(database, view):
    described = {
        column.name: column.sqlite_type if database.is_sqlite else column.postgresql_type
        for column in VIEWS_DESCRIBED[view].columns
    }

    assert types(database, view) == described
    assert [column["name"] for column in inspect(database.engine).get_columns(view)] == list(described)


@pytest.mark.parametrize(("view", "column"), COLUMNS, ids=lambda value: getattr(value, "name", value))
def test_every_column_has_its_text(view, column):
    assert column.meaning.strip().endswith(".")
    assert "|" not in column.meaning + column.personal
    assert column.origin.type.python_type.__name__ != "datetime" or "clock" in column.meaning, "whose clock?"


def test_what_erasure_empties_and_what_may_name_a_person_is_personal():
    personal = {(view, column.name) for view, column in COLUMNS if column.personal}

    assert personal >= {
        ("v1_results", "document"),
        ("v1_results", "reference"),
        ("v1_checks", "reasons"),
        ("v1_checks", "details"),
        ("v1_results", "provider_status"),
        ("v1_history", "provider_status"),
        ("v1_history", "document_sha256"),
    }


def test_what_names_a_row_is_never_null():
    for view in VIEWS_DESCRIBED.values():
        assert set(view.key) <= {column.name for column in view.columns if not column.nullable}
