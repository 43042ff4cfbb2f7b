"""`verisink results`, `resources`, `deliveries` and `attempts`: lists with the filters of the API."""

from collections.abc import Sequence
from datetime import datetime

import click

from worker.cli.common import Line, Time, guarded, json_option, limit_option, opened
from worker.cli.output import print_json, print_table
from worker.domain.states import AttemptOutcome, DeliveryState, FailureKind, Outcome, ResourceState, Stage
from worker.reports import resources as work
from worker.reports import results as verdicts
from worker.reports.resources import AttemptFilter, DeliveryFilter, ResourceFilter
from worker.reports.results import ResultFilter

source_option = click.option("--source", type=Line(), help="Only of this source.")
provider_option = click.option("--provider", type=Line(), help="Only of this provider.")
kind_option = click.option("--kind", type=Line(), help="Only of this kind, such as verification/selfie.")


@click.command(epilog="Example: verisink results --outcome rejected --updated-after 2026-01-31T12:00:00Z")
@source_option
@provider_option
@kind_option
@click.option("--stage", type=click.Choice([item.value for item in Stage]))
@click.option("--outcome", type=click.Choice([item.value for item in Outcome]))
@click.option("--reference", type=Line(), help="Only of this person or case, by your own id.")
@click.option("--updated-after", type=Time(), help="Only what changed after this time.")
@limit_option
@json_option
@guarded
def results(updated_after: datetime | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List results, last changed first."""
    with opened() as runtime, runtime.database.read() as session:
        wanted = ResultFilter(**filters, updated_after=updated_after)
        found = verdicts.newest(session, wanted, limit=limit)
    show_list(
        "results",
        found,
        ("source", "kind", "external_id", "reference", "stage", "outcome", "final", "version", "updated_at"),
        as_json=as_json,
    )


@click.command(epilog="Example: verisink resources --state parked")
@source_option
@provider_option
@kind_option
@click.option("--state", type=click.Choice([item.value for item in ResourceState]))
@click.option("--reason", type=Line(), help="Only parked for this reason, such as gone.")
@limit_option
@json_option
@guarded
def resources(
    source: str | None, provider: str | None, kind: str | None, state: str | None, reason: str | None, **view: int
) -> None:
    """List resources and where they stand: open ones longest waiting first, others newest first."""
    wanted = ResourceFilter(source, provider, kind, ResourceState(state) if state else None, reason)
    with opened() as runtime, runtime.database.read() as session:
        found = work.resources(session, wanted, limit=view["limit"])
    columns = ("source", "kind", "external_id", "state", "park_reason", "last_error", "attempts", "version", "due_at")
    show_list("resources", found, columns, as_json=bool(view["as_json"]))


@click.command(epilog="Example: verisink deliveries --state unreadable")
@source_option
@click.option("--state", type=click.Choice([item.value for item in DeliveryState]))
@click.option("--event-type", type=Line(), help="Only of this type, by the provider's own name.")
@limit_option
@json_option
@guarded
def deliveries(source: str | None, state: str | None, event_type: str | None, limit: int, as_json: bool) -> None:
    """List what the providers sent, newest first. Filters look at the newest 100,000, and for unreadable at all."""
    with opened() as runtime, runtime.database.read() as session:
        found = work.deliveries(session, DeliveryFilter(source, state, event_type), limit=limit)
    columns = ("received_at", "source", "event_type", "event_id", "state", "reason", "repeats", "id")
    show_list("deliveries", found, columns, as_json=as_json)


@click.command(epilog="Example: verisink attempts --outcome failed --source persona-live")
@source_option
@click.option("--outcome", type=click.Choice([item.value for item in AttemptOutcome]))
@click.option("--error", type=click.Choice([item.value for item in FailureKind]))
@limit_option
@json_option
@guarded
def attempts(source: str | None, outcome: str | None, error: str | None, limit: int, as_json: bool) -> None:
    """List retrieve calls and how they ended, newest first. Filters look at the newest 100,000."""
    with opened() as runtime, runtime.database.read() as session:
        found = work.attempts(session, AttemptFilter(source, outcome, error), limit=limit)
    columns = (
        "started_at", "source", "kind", "external_id", "number", "cause", "outcome", "error", "http_status", "detail",
    )  # fmt: skip
    show_list("attempts", found, columns, as_json=as_json)


def show_list(title: str, rows: Sequence[object], columns: Sequence[str], *, as_json: bool) -> None:
    """The rows as a JSON array, or some of their columns as a table."""
    if as_json:
        print_json(rows)
    else:
        print_table(title, columns, ([getattr(row, column) for column in columns] for row in rows))
