"""`verisink status`."""

import click

from worker.cli.common import guarded, json_option, opened
from worker.cli.lists import show_list
from worker.cli.output import duration, print_facts, print_json, print_table
from worker.cli.reconcile import RUN_COLUMNS, run_cells
from worker.cli.sinks import print_sinks
from worker.pipeline import operate_sinks
from worker.reports.status import MOST_OVERDUE, MOST_UNREADABLE, SourceStatus, Status
from worker.reports.status import status as read_status


@click.command(epilog="Example: verisink status --json | jq .oldest_unfinished_seconds")
@json_option
@guarded
def status(as_json: bool) -> None:
    """Open work by state, the oldest of it, held and throttled sources, and how far the sinks are."""
    with opened() as runtime, runtime.database.read() as session:
        found = read_status(session, runtime.settings.sources, operate_sinks.names(runtime.settings))
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Status) -> None:
    unreadable = f"{found.unreadable}{' or more' if found.unreadable >= MOST_UNREADABLE else ''}"
    swept = (found.at - found.last_sweep_at).total_seconds() if found.last_sweep_at else None
    print_facts(
        [
            ("waiting", found.waiting),
            ("claimed", found.claimed),
            ("parked", found.parked),
            ("oldest unfinished", duration(found.oldest_unfinished_seconds)),
            ("unreadable deliveries", unreadable),
            ("overdue expectations", f"{found.overdue}{' or more' if found.overdue >= MOST_OVERDUE else ''}"),
            ("last event", found.last_sequence),
            ("last sweep", "never" if swept is None else f"{duration(max(swept, 0))} ago"),
        ]
    )
    columns = ("source", "state", "reason", "since", "until", "waiting", "claimed", "parked", "oldest")
    print_table("sources", columns, map(_source_cells, found.sources))
    if found.parked_reasons:
        show_list("parked", found.parked_reasons, ("source", "reason", "count"), as_json=False)
    print_sinks(found.sinks)
    if found.reconciliations:
        print_table("last reconciliations", RUN_COLUMNS, map(run_cells, found.reconciliations))
    if found.drift:
        show_list("unknown values", found.drift, ("source", "kind", "field", "value", "seen"), as_json=False)


def _source_cells(item: SourceStatus) -> tuple[object, ...]:
    state = item.state if item.configured else f"{item.state}, not configured"
    counts = (item.waiting, item.claimed, item.parked)
    return item.source, state, item.reason, item.since, item.until, *counts, duration(item.oldest_seconds)
