"""`verisink reconcile` and `verisink reconciliations`."""

import re
from datetime import datetime, timedelta

import click
from rich.console import Console

from worker.cli.common import FAILED, Line, guarded, json_option, limit_option, opened, operator
from worker.cli.lists import source_option
from worker.cli.output import print_facts, print_json, print_table
from worker.domain.reconcile import ReconcileState, Tally
from worker.domain.times import read_time
from worker.pipeline.reconcile import Order, Report
from worker.reports.reconciliations import Reconciliation, reconciliation_list
from worker.runtime import Runtime
from worker.store.engine import database_time

RUN_COLUMNS = (
    "source", "started", "state", "since", "by", "calls", "listed", "missing", "outdated", "reread", "loss", "error",
)  # fmt: skip

_AGO = re.compile(r"(\d{1,5})([mhd])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime | timedelta]):
    """A time, or how long ago: 24h, 7d."""

    name = "time or age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """An aware time, or a span before now."""
        if isinstance(value, datetime | timedelta):
            return value
        ago = _AGO.match(str(value))
        found = timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else read_time(str(value))
        if found is None:
            self.fail(
                f"{value!r} is neither an age such as 24h or 7d nor a time such as 2026-01-31T12:00:00Z", param, ctx
            )
        return found


@click.command(epilog="Example: verisink reconcile persona-live --since 7d --dry-run")
@click.argument("source", type=Line())
@click.option(
    "--since", type=Since(), default="24h", show_default=True, help="What happened since then: 24h, 7d, a time."
)
@click.option("--dry-run", is_flag=True, help="Only show what is missing or outdated.")
@json_option
@guarded
def reconcile(source: str, since: datetime | timedelta, dry_run: bool, as_json: bool) -> None:
    """Ask the provider what exists, and retrieve what its webhooks did not tell of. Open results are read again."""
    with opened() as runtime:
        report = _run(runtime, _order(runtime, source, since, dry_run=dry_run))
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report.state is not ReconcileState.FINISHED:
        raise click.exceptions.Exit(FAILED)


@click.command(epilog="Example: verisink reconciliations --source persona-live --limit 5")
@source_option
@limit_option
@json_option
@guarded
def reconciliations(source: str | None, limit: int, as_json: bool) -> None:
    """The last reconciliations, newest first, with the share that only they found."""
    with opened() as runtime, runtime.database.read() as session:
        found = reconciliation_list(session, source, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table("reconciliations", RUN_COLUMNS, map(run_cells, found))


def _order(runtime: Runtime, source: str, since: datetime | timedelta, *, dry_run: bool) -> Order:
    with runtime.database.read() as session:
        now = database_time(session)
    return Order(source, now - since if isinstance(since, timedelta) else since, operator(), dry_run)


def _run(runtime: Runtime, order: Order) -> Report:
    runtime.nudger.start()
    try:
        with runtime.client, Console(stderr=True).status("asking the provider …") as line:

            def watch(tally: Tally) -> None:
                line.update(
                    f"{tally.calls} pages, {tally.listed} listed, {tally.missing} missing, {tally.outdated} old"
                )

            return runtime.reconciler.run(order, watch=watch)
    finally:
        runtime.nudger.stop()


def _print(report: Report) -> None:
    tally = report.tally
    print_facts(
        [
            ("source", report.source),
            ("since", report.since),
            ("state", report.state),
            ("calls", tally.calls),
            ("listed", tally.listed),
            ("missing", tally.missing),
            ("outdated", tally.outdated),
            ("parked, left so", tally.parked or None),
            ("read again", tally.reread),
            ("unreadable entries", tally.unreadable or None),
            ("loss rate", f"{percent(report.loss_rate)} ({tally.lost} of {tally.announced} that webhooks tell of)"),
            ("note", report.error),
        ]
    )
    if report.findings:
        title = "would be retrieved" if report.dry_run else "retrieved as the budget allows"
        rows = [(item.judgement, item.kind, item.external_id) for item in report.findings]
        print_table(title, ("why", "kind", "id"), rows)


def run_cells(item: Reconciliation) -> tuple[object, ...]:
    """One run as a line of a table with RUN_COLUMNS."""
    counts = (item.calls, item.listed, item.missing, item.outdated, item.reread)
    times = (item.started_at, item.state, item.since, item.actor)
    return (item.source, *times, *counts, percent(item.loss_rate), item.error)


def percent(share: float | None) -> str:
    """A share for people to read; what cannot be told is a dash."""
    return "-" if share is None else f"{share:.1%}"
