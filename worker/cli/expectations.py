"""`verisink expectations` and `verisink expect`: results that should be there by a time."""

from datetime import datetime

import click

from worker.cli.common import Time, guarded, json_option, limit_option, opened, operator, resource_arguments
from worker.cli.lists import show_list, source_option
from worker.cli.output import print_json
from worker.domain.states import ExpectationState
from worker.pipeline import expect as pipeline
from worker.pipeline.expect import BadExpectation
from worker.reports import expectations as reports
from worker.reports.expectations import ExpectationFilter
from worker.store.expectations import Wanted

COLUMNS = ("deadline", "source", "kind", "external_id", "reference", "state", "found", "actor", "id")


@click.command(epilog="Example: verisink expectations --state overdue")
@source_option
@click.option("--state", type=click.Choice([item.value for item in ExpectationState]))
@limit_option
@json_option
@guarded
def expectations(source: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List expected results, latest deadline first."""
    with opened() as runtime, runtime.database.read() as session:
        found = reports.newest(session, ExpectationFilter(source, state), limit=limit)
    show_list("expectations", found, COLUMNS, as_json=as_json)


@click.command(epilog="Example: verisink expect persona-live inquiry inq_123 --by 2026-01-31T12:00:00Z")
@resource_arguments
@click.option("--by", type=Time(), required=True, help="When the result has to be there.")
@json_option
@guarded
def expect(source: str, kind: str, external_id: str, by: datetime, as_json: bool) -> None:
    """Expect a result by a time. What is not there then is retrieved, and is overdue if that does not help."""
    with opened() as runtime, runtime.database.write() as session:
        wanted = Wanted(source, kind, external_id, None, by)
        try:
            made, new = pipeline.add(session, runtime.settings, wanted, actor=operator())
        except BadExpectation as error:
            raise click.UsageError(f"{error.where}: {error}") from None
        found = reports.expectation(session, made)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{'expected' if new else 'expected already'}: {made}")
