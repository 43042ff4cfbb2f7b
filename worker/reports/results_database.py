"""The page about the results database, in Markdown, and the same for dbt. Both are made from `store.view_columns`."""

import json
from collections.abc import Iterable, Iterator

from worker.store.view_columns import VIEWS_DESCRIBED, View, ViewColumn

_INTRODUCTION = """\
<!-- Written by `make docs` from worker/store/view_columns.py: change it there. -->

# The results database

What SQL readers may rely on, column by column. What the words mean is in [results.md](results.md). Queries for
questions that people ask, each of them tested, are in [questions/](questions/README.md). A
[dbt project](../examples/dbt/README.md) has the same as sources with tests.

## What is promised

- **The contract is additive.** Views are added, columns are added at a view's end, and words may be added to `type`.
  Nothing is removed, renamed, moved or given another type or meaning: that would be views named `v2_…`, beside these.
  So name the columns that you want; do not count on `SELECT *` having as many tomorrow.
- **Tables are no contract.** They change with every release. Views read with their owner's rights, so nobody needs
  the tables.
- **Upgrades keep what you built.** On PostgreSQL a view is extended in its place: your grants, and your own views on
  top of it, stay.
- **Indexes stay.** The conditions named *fast* below are answered by an index, in this and in later releases.
- **A transaction sees one state.** A result, its checks and its history are written together. An event gets its
  `sequence`, and is seen, moments later.

## Two engines

The views are the same, and the types mean the same. What differs:

- **Times** are moments on PostgreSQL, shown in your connection's time zone (`SET TIME ZONE 'UTC'`). On SQLite they are
  text in UTC, `2026-01-31 12:00:00.000000`, that sorts by time. Text such as `2026-01-31 12:00:00+00:00` compares
  rightly with `>=` and `<` on both; on SQLite with no other zone, and with neither `=` nor `<=`.
- **Truth values** are `1` and `0` on SQLite.
- **JSON** is `jsonb` on PostgreSQL: `document #>> '{data,attributes,status}'`, `reasons ->> 0`. On SQLite it is text:
  `document ->> '$.data.attributes.status'`, `reasons ->> 0`.
- **Lengths** such as `VARCHAR(63)` are not enforced by SQLite; Verisink writes nothing longer.
- **Readers** of SQLite open the file read-only (`sqlite3 'file:verisink.db?mode=ro'`), and end their transactions soon:
  while one is open, the file beside it that ends in `-wal` only grows.

## Who may read what

Columns marked *personal* can say who somebody is, or hold words about a person that nobody here controls. `document`
always does. `external_id` and what a verdict says are about a person too, but lead to nobody without the provider's
account or the columns that are marked.

`verisink grants` prints SQL for PostgreSQL that makes two roles which can read and nothing else:

- `verisink_personal_reader` reads the `v1_*` views.
- `verisink_reader` reads views of the same names in a schema of their own, `verisink_results`, which leave the personal
  columns out. Grants on columns would hide them as well, but `SELECT *` is then refused as a whole, and most tools send
  it. A query that names a personal column fails; it is never answered with an empty value.

Neither gets anything on a table. The SQL can be run again: it repairs, adds the columns that a release brought, which
`verisink_reader` does not see before, and takes those away that a release marks as personal: run it after each upgrade.
Where views of yours read those of `verisink_reader`, it may say that they have to be dropped first. It ends with a
check, and grants nothing if a role could do more than it should: by `PUBLIC`, by another role, by default privileges,
or as a superuser. `verisink grants --revoke` prints how to take it back. Two rights that PostgreSQL gives to everybody
are left alone: temporary tables, and, on servers that were set up before version 15, tables of one's own in `public`;
the SQL warns of the latter.
"""


def described() -> list[dict[str, object]]:
    """The views and their columns, for programs."""
    return [
        {
            "view": view.name,
            "row": view.row,
            "key": view.key,
            "fast": [condition for condition, _ in view.fast],
            "columns": [_facts(column) for column in view.columns],
        }
        for view in VIEWS_DESCRIBED.values()
    ]


def _facts(column: ViewColumn) -> dict[str, object]:
    return {
        "name": column.name,
        "postgresql": column.postgresql_type,
        "sqlite": column.sqlite_type,
        "nullable": column.nullable,
        "personal": column.personal or None,
        "values": column.values or None,
        "meaning": column.meaning,
    }


def markdown() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(line for view in VIEWS_DESCRIBED.values() for line in _page(view))]) + "\n"


def _page(view: View) -> Iterator[str]:
    yield f"## `{view.name}`\n"
    yield f"A row is {view.row}. Named by {', '.join(f'`{column}`' for column in view.key)}.\n"
    yield "| column | PostgreSQL | SQLite | null | personal | meaning |"
    yield "|---|---|---|---|---|---|"
    for column in view.columns:
        yield _row(column)
    yield "\nFast:\n"
    for condition, answer in view.fast:
        yield f"- `{condition}`: {answer}"
    yield f"\nNot fast: {view.slow}.\n"


def _row(column: ViewColumn) -> str:
    types = f"`{column.postgresql_type}` | `{column.sqlite_type}`"
    null = "yes" if column.nullable else "no"
    words = f" One of {', '.join(f'`{word}`' for word in column.values)}." if column.values else ""
    personal = f"**yes**: {column.personal}" if column.personal else "no"
    return f"| `{column.name}` | {types} | {null} | {personal} | {column.meaning}{words} |"


_DBT_HEADER = """\
# Written by `make docs` from worker/store/view_columns.py: change it there.
version: 2

sources:
  - name: verisink
    description: "The results database of Verisink. The contract is additive: columns are added, none is changed."
    # `public` for a role that reads personal data, else the schema that `verisink grants` made.
    schema: "{{ var('verisink_schema', 'public') }}"
    tables:
"""

_FRESH = {
    "v1_results": "SELECT updated_at FROM {{ this }} ORDER BY updated_at DESC LIMIT 1",
    "v1_events": "SELECT occurred_at FROM {{ this }} ORDER BY sequence DESC LIMIT 1",
}
"""Where rows show how fresh they are, how to see it by an index: dbt's `loaded_at_field` would read all of them."""

_FRESHNESS = "{warn_after: {count: 1, period: day}, error_after: {count: 7, period: day}}"
"""Quiet days are normal for a small service, and quiet weeks are not. Whoever knows better overrides it."""


def dbt_sources() -> str:
    """The views as sources of dbt, with tests, in YAML. Texts are written as JSON strings, which YAML can read."""
    return _DBT_HEADER + "\n".join(line for view in VIEWS_DESCRIBED.values() for line in _source(view)) + "\n"


def _source(view: View) -> Iterator[str]:
    yield f"      - name: {view.name}"
    yield f"        description: {_text(f'A row is {view.row}.')}"
    if view.name in _FRESH:
        yield "        config:"
        yield f"          loaded_at_query: {_text(_FRESH[view.name])}"
        yield f"          freshness: {_FRESHNESS}"
    yield "        data_tests:"
    yield f"          - unique_together: {{arguments: {{columns: {_list(view.key)}}}}}"
    yield "        columns:"
    for column in view.columns:
        yield from _dbt_column(column)


def _dbt_column(column: ViewColumn) -> Iterator[str]:
    yield f"          - name: {column.name}"
    yield f"            description: {_text(column.meaning)}"
    yield f"            data_type: {_text(column.postgresql_type.lower())}"
    if column.personal:
        yield f"            config: {{tags: [personal], meta: {{personal: {_text(column.personal)}}}}}"
    tests = [] if column.nullable else ["not_null"]
    tests += [f"accepted_values: {{arguments: {{values: {_list(column.values)}}}}}"] if column.values else []
    if tests:
        yield "            data_tests:"
        yield from (f"              - {test}" for test in tests)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"
