"""`verisink doctor`: what is wrong, and what to do about it."""

from collections.abc import Iterator, Sequence

import click

from worker.cli import alerts, checks
from worker.cli.checks import Check
from worker.cli.checks_sinks import standing_checks
from worker.cli.common import FAILED, json_option, load
from worker.cli.lists import show_list
from worker.errors import ConfigurationError
from worker.runtime import Runtime


@click.command(epilog="Example: verisink doctor --alert VerisinkSinkLagging")
@click.option("--offline", is_flag=True, help="Ask no provider whether the credentials work.")
@click.option("--alerts", "all_alerts", is_flag=True, help="Say of each alert whether it would fire now, and no more.")
@click.option("--alert", "names", multiple=True, type=click.Choice(alerts.NAMES), help="The same of this alert only.")
@json_option
def doctor(offline: bool, all_alerts: bool, names: tuple[str, ...], as_json: bool) -> None:
    """Check settings, database, spool, broker, clock, sinks, each source's credential, and what alerts would fire.
    Changes nothing."""
    found = list(_examine_alerts(names or None) if names or all_alerts else _examine(offline=offline))
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
        known = alerts.facts(runtime)
        if known.found is not None:
            # Why the database cannot be used has been said.
            yield from alerts.firing(known)
    finally:
        runtime.database.dispose()


def _examine_alerts(names: Sequence[str] | None) -> Iterator[Check]:
    try:
        runtime = Runtime(load())
    except ConfigurationError as error:
        yield from checks.settings_broken(error)
        return
    try:
        yield from alerts.judged(alerts.facts(runtime), names)
    finally:
        runtime.database.dispose()
