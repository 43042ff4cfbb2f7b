"""`verisink replays` and `verisink lanes`: what was replayed, how it stands, and what could be."""

import dataclasses
import uuid
from collections.abc import Callable

import click

from worker.cli.common import fail, guarded, json_option, limit_option, opened, operator
from worker.cli.lists import show_list
from worker.cli.output import print_facts, print_json
from worker.cli.replay_progress import words
from worker.domain.replays import ItemOutcome
from worker.pipeline import replay as replaying
from worker.reports import replays as reports
from worker.reports.replays import ItemFilter, Replay
from worker.runtime import Runtime

COLUMNS = ("id", "created_at", "level", "state", "done", "total", "actor", "reason")
ITEM_COLUMNS = (
    "position", "source", "kind", "external_id", "delivery_id", "state", "outcome", "detail", "finished_at",
)  # fmt: skip
LANE_COLUMNS = ("lane", "level", "count", "first_at", "last_at", "sample")

_id_argument = click.argument("replay_id", type=click.UUID, metavar="ID")


@click.group(invoke_without_command=True, epilog="Example: verisink replays pause 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a")
@limit_option
@json_option
@click.pass_context
@guarded
def replays(context: click.Context, limit: int, as_json: bool) -> None:
    """List replays, the newest first; or show, pause, resume or cancel one."""
    if context.invoked_subcommand is not None:
        return
    with opened() as runtime, runtime.database.read() as session:
        found = reports.replays_made(session, limit=limit)
    show_list("replays", found, COLUMNS, as_json=as_json)


@replays.command(epilog="Example: verisink replays show 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a")
@_id_argument
@json_option
@guarded
def show(replay_id: uuid.UUID, as_json: bool) -> None:
    """How far a replay is."""
    with opened() as runtime:
        _print(_read(runtime, replay_id), as_json=as_json)


@replays.command(epilog="Example: verisink replays items 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a --outcome parked")
@_id_argument
@click.option("--outcome", type=click.Choice([item.value for item in ItemOutcome]))
@click.option("--after", type=click.IntRange(0, 2**31 - 1), default=0, help="Begin behind this position.")
@limit_option
@json_option
@guarded
def items(replay_id: uuid.UUID, outcome: str | None, after: int, limit: int, as_json: bool) -> None:
    """How each item of a replay ended."""
    with opened() as runtime:
        _read(runtime, replay_id)
        wanted = ItemFilter(after, ItemOutcome(outcome) if outcome else None)
        with runtime.database.read() as session:
            found = reports.items(session, replay_id, wanted, limit=limit)
    show_list("items", found, ITEM_COLUMNS, as_json=as_json)


@replays.command(epilog="Example: verisink replays pause 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a")
@_id_argument
@json_option
@guarded
def pause(replay_id: uuid.UUID, as_json: bool) -> None:
    """Ask for nothing more until it is resumed. What was asked for still comes."""
    _do(replaying.pause, replay_id, as_json=as_json)


@replays.command(epilog="Example: verisink replays resume 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a")
@_id_argument
@json_option
@guarded
def resume(replay_id: uuid.UUID, as_json: bool) -> None:
    """Go on with a paused replay."""
    _do(replaying.resume, replay_id, as_json=as_json)


@replays.command(epilog="Example: verisink replays cancel 5f0c9f1e-7a5b-4c55-9a55-0d5c8f6d3b1a")
@_id_argument
@json_option
@guarded
def cancel(replay_id: uuid.UUID, as_json: bool) -> None:
    """Give up whatever has not been asked for."""
    _do(replaying.cancel, replay_id, as_json=as_json)


@click.command(epilog="Example: verisink lanes --json | jq -r '.[0].lane'")
@json_option
@guarded
def lanes(as_json: bool) -> None:
    """List parked work by source, step and likeness of its errors: `verisink replay --lane` replays one whole."""
    with opened() as runtime, runtime.database.read() as session:
        found = reports.lanes(session)
    show_list("lanes", found, LANE_COLUMNS, as_json=as_json)


def _do(deed: Callable[..., bool], replay_id: uuid.UUID, *, as_json: bool) -> None:
    with opened() as runtime:
        with runtime.database.write() as session:
            changed = deed(session, replay_id, actor=operator())
        found = _read(runtime, replay_id)
    if not changed and not as_json:
        click.echo(f"it is {found.state} already")
    _print(found, as_json=as_json)


def _read(runtime: Runtime, replay_id: uuid.UUID) -> Replay:
    with runtime.database.read() as session:
        found = reports.replay(session, replay_id)
    if found is None:
        fail("there is no such replay")
    return found


def _print(found: Replay, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    chosen = ", ".join(f"{name}={value}" for name, value in found.selection.items())
    print_facts({**fields, "selection": chosen, "outcomes": words(found) or None}.items())
