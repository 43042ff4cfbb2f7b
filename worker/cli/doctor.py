"""`verisink doctor`: what is wrong, and what to do about it."""

from collections.abc import Iterator

import click

from worker.cli import checks
from worker.cli.checks import Check
from worker.cli.checks_sinks import standing_checks
from worker.cli.common import FAILED, json_option, load
from worker.cli.lists import show_list
from worker.errors import ConfigurationError
from worker.runtime import Runtime


@click.command(epilog="Example: verisink doctor --offline")
@click.option("--offline", is_flag=True, help="Ask no provider whether the credentials work.")
@json_option
def doctor(offline: bool, as_json: bool) -> None:
    """Check settings, database, spool, broker, clock, sinks and each source's credential. Changes nothing."""
    found = list(_examine(offline=offline))
    show_list("doctor", found, ("name", "state", "detail", "todo"), as_json=as_json)
    if any(check.state == checks.FAIL for check in found):
        raise click.exceptions.Exit(FAILED)


def _examine(*, offline: bool) -> Iterator[Check]:
    try:
        runtime = Runtime(load())
    except ConfigurationError as error:
        yield from checks.settings_broken(error)
        return
    try:
        yield from checks.settings_checks(runtime.settings)
        yield from checks.database_checks(runtime)
        yield from checks.api_checks(runtime)
        yield from checks.spool_checks(runtime.settings)
        yield from checks.broker_checks(runtime)
        yield from checks.sink_checks(runtime.settings)
        yield from standing_checks(runtime)
        yield from checks.source_checks(runtime, offline=offline)
    finally:
        runtime.database.dispose()
