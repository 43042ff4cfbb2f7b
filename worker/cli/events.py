"""`verisink events`: the event log, as it is or as it grows."""

import time
from collections.abc import Callable

import click

from worker.cli.common import guarded, json_option, limit_option, opened
from worker.cli.interrupt import interruptible
from worker.cli.lists import kind_option, show_list, source_option
from worker.cli.output import plain
from worker.domain.events import EventFilter
from worker.domain.states import EventType
from worker.reports import events as event_log
from worker.reports.build import json_text
from worker.reports.events import EventPage, EventRow
from worker.runtime import Runtime
from worker.store.engine import UNAVAILABLE

POLL_SECONDS = 0.5
COLUMNS = ("sequence", "occurred_at", "type", "source", "kind", "external_id", "version", "stage", "outcome")
BATCH = 500


@click.command(epilog="Example: verisink events --follow --json | jq .type")
@click.option("--after", type=click.IntRange(0, 2**63 - 1), help="Begin behind this sequence, not with the last ones.")
@click.option("--type", "event_type", type=click.Choice([item.value for item in EventType]), help="Only of this type.")
@source_option
@kind_option
@click.option("--follow", is_flag=True, help="Go on as events come, one line each, until Ctrl-C.")
@limit_option
@json_option
@guarded
def events(  # noqa: PLR0913 - click hands over each option
    after: int | None,
    event_type: str | None,
    source: str | None,
    kind: str | None,
    follow: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List events in order. With --follow and --json, each line is a JSON document.

    Without --after, filters look at the newest 100,000.
    """
    one = [frozenset() if value is None else frozenset({value}) for value in (event_type, source, kind)]
    wanted = EventFilter(*one)
    with opened() as runtime:
        page = _newest(runtime, wanted, limit) if after is None else _read(runtime, wanted, after, limit)
        if not follow:
            show_list("events", page.items, COLUMNS, as_json=as_json)
            return
        with interruptible() as interrupted:
            _follow(runtime, wanted, page, as_json=as_json, interrupted=interrupted)


def _follow(
    runtime: Runtime, wanted: EventFilter, page: EventPage, *, as_json: bool, interrupted: Callable[[], bool]
) -> None:
    away = False
    while not interrupted():
        for event in page.items:
            click.echo(json_text(event) if as_json else _line(event))
        if page.at_end:
            time.sleep(POLL_SECONDS)
        try:
            page = _read(runtime, wanted, page.next_after, BATCH)
            away = False
        except UNAVAILABLE as error:
            # Nothing is missed by it: the next look begins where this one did.
            page = EventPage((), page.next_after, at_end=True)
            if not away:
                click.echo(f"the database cannot be used ({type(error).__name__}): waiting for it", err=True)
            away = True


def _newest(runtime: Runtime, wanted: EventFilter, limit: int) -> EventPage:
    with runtime.database.read() as session:
        return event_log.newest_events(session, limit=limit, wanted=wanted)


def _read(runtime: Runtime, wanted: EventFilter, after: int, limit: int) -> EventPage:
    """The page behind `after`, which has items unless the log has no more of them."""
    with runtime.database.read() as session:
        page = event_log.events(session, after=after, limit=limit, wanted=wanted)
        while not page.items and not page.at_end:
            page = event_log.events(session, after=page.next_after, limit=limit, wanted=wanted)
        return page


def _line(event: EventRow) -> str:
    subject = f"{event.source}/{event.kind}/{event.external_id}" if event.kind else event.source
    words = [event.sequence, event.occurred_at, event.type, subject, event.version, event.stage, event.outcome]
    return "  ".join(plain(word) for word in words if word is not None)
