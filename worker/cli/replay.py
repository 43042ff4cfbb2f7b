"""`verisink replay`: choose, look at the plan, start, and watch it. It runs in the workers, not here."""

import sys
import uuid
from collections.abc import Mapping
from datetime import datetime

import click

from worker.cli.common import FAILED, Line, Time, fail, guarded, json_option, opened, operator
from worker.cli.lists import kind_option, show_list, source_option
from worker.cli.output import duration, print_facts, print_json, print_table
from worker.cli.replay_progress import follow
from worker.domain.replays import TROUBLE, Lane, ReplayLevel, Selection
from worker.domain.states import DeliveryState, ResourceState
from worker.errors import BadSelection
from worker.pipeline import replay as replaying
from worker.pipeline.replay import Planner, ReplayPlan
from worker.reports import replays
from worker.reports.replays import Replay
from worker.runtime import Runtime
from worker.store.replays import Order

STATES = [*(state.value for state in ResourceState), *(state.value for state in DeliveryState)]


@click.command(epilog="Example: verisink replay --parked --source persona-live --error gone --plan")
@click.option(
    "--level",
    type=click.Choice([level.value for level in ReplayLevel]),
    default=ReplayLevel.RETRIEVE.value,
    show_default=True,
    help="From the provider, the stored version, or the stored delivery.",
)
@click.option("--parked", is_flag=True, help="Only parked work; with reingest, what could not be read.")
@source_option
@kind_option
@click.option("--error", type=Line(), help="Only parked with this failure, reason or fingerprint.")
@click.option("--lane", type=Line(), help="A whole lane, by the name that `verisink lanes` shows.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state; of deliveries with reingest.")
@click.option("--since", type=Time(), help="Only parked, changed or received since then.")
@click.option("--until", type=Time(), help="Only parked, changed or received before then.")
@click.option("--id", "ids", type=Line(), multiple=True, help="An external id; may be given several times.")
@click.option("--all", "everything", is_flag=True, help="Without any condition: really everything.")
@click.option("--plan", is_flag=True, help="Only show what it would come to.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", type=Line(), help="Why, for whoever looks later.")
@click.option("--no-wait", is_flag=True, help="Start it and return.")
@json_option
@guarded
def replay(**wished: object) -> None:
    """Do a selection of work again: ask the provider (retrieve), read what is stored (reproject), or read webhooks
    (reingest). All conditions must hold."""
    level, as_json = ReplayLevel(str(wished["level"])), bool(wished["as_json"])
    with opened() as runtime:
        try:
            selection = _selection(wished).checked(level)
            if wished["plan"]:
                _show_plan(_plan(runtime, level, selection), as_json=as_json)
                return
            if not wished["yes"] and not _agreed(runtime, level, selection, as_json=as_json):
                return
            started = _start(runtime, Order(level, selection, operator(), _text(wished["reason"])))
        except BadSelection as error:
            raise click.UsageError(str(error)) from None
        wait = not wished["no_wait"] and started.finished_at is None
        found = _follow(runtime, started, silent=as_json) if wait else started
    _report(found, as_json=as_json)


def _selection(wished: Mapping[str, object]) -> Selection:
    lane = wished["lane"]
    return Selection(
        ids=_texts(wished["ids"]),
        source=_text(wished["source"]),
        kind=_text(wished["kind"]),
        error=_text(wished["error"]),
        lane=Lane.parse(str(lane)) if lane else None,
        state=_text(wished["state"]),
        parked=bool(wished["parked"]),
        since=_moment(wished["since"]),
        until=_moment(wished["until"]),
        everything=bool(wished["everything"]),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else ()


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _plan(runtime: Runtime, level: ReplayLevel, selection: Selection) -> ReplayPlan:
    return Planner(runtime.database, runtime.settings.sources, runtime.providers).plan(level, selection)


def _agreed(runtime: Runtime, level: ReplayLevel, selection: Selection, *, as_json: bool) -> bool:
    """Whether the person at the terminal wants what the plan says."""
    if as_json or not sys.stdin.isatty():
        fail("nobody is here to ask: look with --plan, then say --yes")
    plan = _plan(runtime, level, selection)
    _show_plan(plan, as_json=False)
    return plan.count > 0 and click.confirm(f"Replay these {plan.count}?", err=True)


def _show_plan(plan: ReplayPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    if not plan.count:
        click.echo("nothing matches")
        return
    print_facts([("items", plan.count), ("calls", plan.calls), ("time at the budget", duration(plan.seconds))])
    show_list("sources", plan.sources, ("source", "configured", "count", "calls", "seconds"), as_json=False)
    if plan.level is ReplayLevel.RETRIEVE:
        return
    print_table("outcomes", ("outcome", "count"), plan.outcomes.items())
    show_list("changes", plan.changes, ("before", "after", "count"), as_json=False)
    if not plan.complete:
        click.echo(f"these are of the first {plan.examined} of {plan.count}; the rest was not looked at")


def _start(runtime: Runtime, order: Order) -> Replay:
    with runtime.database.write() as session:
        made = replaying.start(session, order)
    return _read(runtime, made)


def _read(runtime: Runtime, replay_id: uuid.UUID) -> Replay:
    with runtime.database.read() as session:
        found = replays.replay(session, replay_id)
    if found is None:
        fail("the replay is gone from the database")
    return found


def _follow(runtime: Runtime, started: Replay, *, silent: bool) -> Replay:
    if not silent:
        click.echo(f"replay {started.id}: {started.total} items; Ctrl-C leaves it running")
    return follow(lambda: _read(runtime, started.id), runtime.database, silent=silent)


def _report(found: Replay, *, as_json: bool) -> None:
    """What came of it. Items that a person should look at make it a failure."""
    if as_json:
        print_json(found)
    elif not found.total:
        click.echo("nothing matches")
    elif found.finished_at is None:
        click.echo(f"it goes on in the background: `verisink replays show {found.id}` tells how far it is")
    else:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.outcomes.items()))
        click.echo(f"{found.state}: {counts}")
    if found.finished_at is not None and any(found.outcomes.get(outcome) for outcome in TROUBLE):
        click.echo(f"some need a look: `verisink replays items {found.id}`", err=True)
        raise click.exceptions.Exit(FAILED)
