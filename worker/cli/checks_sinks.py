"""What `verisink doctor` says of sinks that do not get their events."""

from collections.abc import Iterator

from worker.cli.checks import OK, WARN, Check
from worker.cli.common import sqlite_file
from worker.cli.output import duration
from worker.pipeline import operate_sinks
from worker.reports.sinks import SinkStatus, sink_list
from worker.runtime import Runtime
from worker.store import schema
from worker.store.engine import UNAVAILABLE


def standing_checks(runtime: Runtime) -> Iterator[Check]:
    """How each sink in trouble stands. What keeps the database from being asked is told of elsewhere."""
    path = sqlite_file(runtime.settings)
    if path is not None and not path.exists():
        # To look into it would make it.
        return
    try:
        if schema.current(runtime.database) != schema.head():
            return
        with runtime.database.read() as session:
            found = sink_list(session, operate_sinks.names(runtime.settings))
    except UNAVAILABLE:
        return
    for item in found:
        yield from _judge(item)


def _judge(item: SinkStatus) -> Iterator[Check]:
    name = f"sink {item.sink}: delivery"
    waits = f"{item.lag + item.waiting} events wait, the oldest for {duration(item.oldest_seconds)}"
    match item.state:
        case "held":
            todo = f"run `verisink sinks release {item.sink}` when they may be delivered"
            yield Check(name, WARN, f"held: {item.hold_reason}; {waits}", todo)
        case "away":
            todo = f"mend it; it is tried again by itself, or now by `verisink sinks release {item.sink}`"
            yield Check(name, WARN, f"away after {item.failures} tries: {item.last_error}; {waits}", todo)
        case "refusing":
            todo = f"see `verisink sinks log {item.sink} --state waiting` for which and why"
            yield Check(name, WARN, f"refuses events; {waits}", todo)
        case "removed":
            todo = f"run `verisink sinks forget {item.sink}` unless it comes back"
            yield Check(name, OK, "no more in the settings; its place is remembered", todo)
    if item.given_up and item.state != "removed":
        todo = f"see `verisink sinks log {item.sink} --state given_up`, mend it, and `sinks resend` with --given-up"
        yield Check(name, WARN, f"{item.given_up} events were given up", todo)
