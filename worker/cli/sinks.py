"""`verisink sinks`: how they stand, what they got, and what operators do about them."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import click

from worker.cli.common import Line, Time, fail, guarded, json_option, limit_option, opened, operator
from worker.cli.lists import show_list
from worker.cli.output import duration, print_json, print_table
from worker.pipeline import operate_sinks
from worker.pipeline.operate_sinks import Selection
from worker.reports import sinks as reports
from worker.reports.sinks import SinkStatus
from worker.runtime import Runtime
from worker.store.engine import unless_crossed

COLUMNS = ("sink", "state", "position", "lag", "oldest", "waiting", "given up", "since", "why")
LOG_COLUMNS = (
    "sequence", "id", "type", "kind", "external_id", "state", "attempts", "delivered_at", "due_at", "last_error",
)  # fmt: skip
STATES = ("delivered", "waiting", "given_up")

_name_argument = click.argument("name", type=Line())
_reason_option = click.option("--reason", type=Line(), help="Why, for whoever looks later.")


def print_sinks(found: Sequence[SinkStatus]) -> None:
    """The sinks as a table."""
    print_table("sinks", COLUMNS, map(_cells, found))


def _cells(item: SinkStatus) -> tuple[object, ...]:
    since, why = (item.held_at, item.hold_reason) if item.held_at else (item.away_since, item.last_error)
    counts = (item.waiting, item.given_up)
    return item.sink, item.state, item.position, item.lag, duration(item.oldest_seconds), *counts, since, why


@click.group(invoke_without_command=True, epilog="Example: verisink sinks hold decisions --reason 'their release'")
@json_option
@click.pass_context
@guarded
def sinks(context: click.Context, as_json: bool) -> None:
    """List sinks and how they stand; or hold, release, resend, forget, and see the log of one."""
    if context.invoked_subcommand is not None:
        return
    with opened() as runtime, runtime.database.read() as session:
        found = reports.sink_list(session, operate_sinks.names(runtime.settings))
    if as_json:
        print_json(found)
    else:
        print_sinks(found)


@sinks.command(epilog="Example: verisink sinks hold decisions --reason 'their release'")
@_name_argument
@click.option("--reason", type=Line(), required=True, help="Why, for whoever looks later.")
@json_option
@guarded
def hold(name: str, reason: str, as_json: bool) -> None:
    """Deliver nothing to a sink until it is released. Its events wait, and none is lost."""
    if not reason.strip():
        raise click.UsageError("say why, with --reason")
    with opened() as runtime:
        with runtime.database.write() as session:
            settings = runtime.settings
            changed = operate_sinks.hold(session, settings, name, actor=operator(), reason=reason.strip())
        found = _standing(runtime, name)
    held = f"{name} is held; a call that is under way ends by itself"
    _say(found, changed, held if changed else f"{name} is held already: {found.hold_reason}", as_json=as_json)


@sinks.command(epilog="Example: verisink sinks release decisions --reason 'they are done'")
@_name_argument
@_reason_option
@json_option
@guarded
def release(name: str, reason: str | None, as_json: bool) -> None:
    """Deliver to a sink again, in order: ends a hold of any kind, and the pauses of what failed."""
    with opened() as runtime:
        changed = unless_crossed(partial(_release, runtime, name, reason))
        found = _standing(runtime, name)
    released = f"{name} is released; {found.lag + found.waiting} events are waiting"
    _say(found, changed, released if changed else f"{name} was neither held nor waited for", as_json=as_json)


@sinks.command(epilog="Example: verisink sinks resend decisions --given-up")
@_name_argument
@click.option("--event", type=Line(), help="This event, by its id.")
@click.option("--given-up", is_flag=True, help="Everything that was given up.")
@click.option("--since", type=Time(), help="What happened at this time or later.")
@click.option("--until", type=Time(), help="What happened before this time.")
@json_option
@guarded
def resend(
    name: str, event: str | None, given_up: bool, since: datetime | None, until: datetime | None, as_json: bool
) -> None:
    """Send events again, whether they were given up or delivered. They keep their ids."""
    if sum((event is not None, given_up, since is not None or until is not None)) != 1:
        raise click.UsageError("choose one: --event, --given-up, or a time with --since and --until")
    chosen = Selection(event, given_up, since, until)
    with opened() as runtime:
        count = operate_sinks.resend(runtime.database, runtime.settings, name, chosen, actor=operator())
    if as_json:
        print_json({"events": count})
    else:
        click.echo(f"{count} events are sent to {name} again")


@sinks.command(epilog="Example: verisink sinks forget old-stream")
@_name_argument
@json_option
@guarded
def forget(name: str, as_json: bool) -> None:
    """Delete the cursor and the log of a sink that is configured no more. If it comes back, it is a new one."""
    with opened() as runtime:
        operate_sinks.forget(runtime.database, runtime.settings, name, actor=operator())
    if as_json:
        print_json({"forgotten": name})
    else:
        click.echo(f"{name} is forgotten")


@sinks.command(epilog="Example: verisink sinks log decisions --state given_up")
@_name_argument
@click.option("--event", type=Line(), help="Only of this event, by its id.")
@click.option("--state", type=click.Choice(STATES), default="delivered", show_default=True)
@limit_option
@json_option
@guarded
def log(name: str, event: str | None, state: str, limit: int, as_json: bool) -> None:
    """What became of events at a sink: the last delivered, or the first that wait or were given up."""
    with opened() as runtime, runtime.database.read() as session:
        if event is None:
            found = reports.delivery_log(session, name, state, limit=limit)
        else:
            sequence = reports.sequence_of(session, event)
            if sequence is None:
                fail("there is no such event, or it has no number yet")
            found = reports.deliveries_of(session, [name], [sequence])
    show_list("deliveries", found, LOG_COLUMNS, as_json=as_json)


def _say(found: SinkStatus, changed: bool, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"changed": changed, "sink": found})
    else:
        click.echo(sentence)


def _release(runtime: Runtime, name: str, reason: str | None) -> bool:
    with runtime.database.write() as session:
        return operate_sinks.release(session, runtime.settings, name, actor=operator(), reason=reason)


def _standing(runtime: Runtime, name: str) -> SinkStatus:
    with runtime.database.read() as session:
        return reports.one_sink(session, name)
