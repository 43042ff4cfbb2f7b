"""`verisink events`: the event log, as it is or as it grows."""

import time
from collections.abc import Sequence

import click

from worker.cli.common import guarded, json_option, limit_option, opened
from worker.cli.interrupt import interruptible
from worker.cli.lists import show_list
from worker.cli.output import plain
from worker.reports import events as event_log
from worker.reports.build import json_text
from worker.reports.events import EventRow
from worker.runtime import Runtime

POLL_SECONDS = 0.5
COLUMNS = ("sequence", "occurred_at", "type", "source", "kind", "external_id", "version", "stage", "outcome")
BATCH = 500


@click.command(epilog="Example: verisink events --follow --json | jq .type")
@click.option("--after", type=click.IntRange(0, 2**63 - 1), help="Begin behind this sequence, not with the last ones.")
@click.option("--follow", is_flag=True, help="Go on as events come, one line each, until Ctrl-C.")
@limit_option
@json_option
@guarded
def events(after: int | None, follow: bool, limit: int, as_json: bool) -> None:
    """List events in order. With --follow and --json, each line is a JSON document."""
    with opened() as runtime:
        found = _read(runtime, after, limit)
        if not follow:
            show_list("events", found, COLUMNS, as_json=as_json)
            return
        with interruptible() as interrupted:
            while not interrupted():
                after = _print(found, after or 0, as_json=as_json)
                if not found:
                    time.sleep(POLL_SECONDS)
                found = _read(runtime, after, BATCH)


def _read(runtime: Runtime, after: int | None, limit: int) -> Sequence[EventRow]:
    with runtime.database.read() as session:
        if after is None:
            return event_log.newest_events(session, limit=limit)
        return event_log.events(session, after=after, limit=limit)


def _print(found: Sequence[EventRow], after: int, *, as_json: bool) -> int:
    """Print the events, and return where to read on."""
    for event in found:
        click.echo(json_text(event) if as_json else _line(event))
    return found[-1].sequence if found else after


def _line(event: EventRow) -> str:
    subject = f"{event.source}/{event.kind}/{event.external_id}" if event.kind else event.source
    words = [event.sequence, event.occurred_at, event.type, subject, event.version, event.stage, event.outcome]
    return "  ".join(plain(word) for word in words if word is not None)
