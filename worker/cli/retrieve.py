"""`verisink retrieve`: ask for one resource, and wait for it if told to."""

import time
from dataclasses import dataclass

import click

from worker.cli.common import fail, guarded, json_option, key, nudge, opened, operator, resource_arguments
from worker.cli.output import print_json
from worker.cli.show import print_result, result_fields
from worker.clock import monotonic
from worker.domain.model import ResourceKey
from worker.domain.states import ResourceState
from worker.pipeline import operate
from worker.reports import resources as work
from worker.reports import results
from worker.reports.resources import Resource
from worker.reports.results import ResultDetail
from worker.runtime import Runtime

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the resource stands, and its result once the retrieve that was asked for has ended."""

    resource: Resource
    result: ResultDetail | None
    finished: bool


@click.command(epilog="Example: verisink retrieve persona-live verification/selfie ver_123 --wait 30")
@resource_arguments
@click.option("--wait", type=click.FloatRange(0, 86_400), default=0, help="Wait so many seconds for the result.")
@json_option
@guarded
def retrieve(source: str, kind: str, external_id: str, wait: float, as_json: bool) -> None:
    """Retrieve one resource, whether or not a webhook told of it. A running worker does it as its budget allows."""
    wanted = key(source, kind, external_id)
    with opened() as runtime:
        asked = _ask(runtime, wanted)
        nudge(runtime, source)
        outcome = _wait(runtime, wanted, asked, wait)
    if as_json:
        result = outcome.result and result_fields(outcome.result, whole=False)
        print_json({"resource": outcome.resource, "finished": outcome.finished, "result": result})
    elif outcome.result is not None:
        print_result(outcome.result)
    if not outcome.finished:
        _explain(outcome.resource, waited=wait > 0, as_json=as_json)


def _ask(runtime: Runtime, wanted: ResourceKey) -> Resource:
    with runtime.database.write() as session:
        names = wanted.source, wanted.ref.kind, wanted.ref.external_id
        try:
            operate.retrieve(session, runtime.settings, *names, actor=operator())
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return _resource(work.resource(session, wanted))


def _resource(found: Resource | None) -> Resource:
    if found is None:
        fail("the resource is gone from the database")
    return found


def _wait(runtime: Runtime, wanted: ResourceKey, asked: Resource, seconds: float) -> Outcome:
    ends = monotonic() + seconds
    while True:
        with runtime.database.read() as session:
            found = _resource(work.resource(session, wanted))
            if found.retrieved >= asked.wanted:
                return Outcome(found, results.result(session, wanted), True)
        if found.state == ResourceState.PARKED or monotonic() >= ends:
            return Outcome(found, None, False)
        time.sleep(POLL_SECONDS)


def _explain(found: Resource, *, waited: bool, as_json: bool) -> None:
    """Say why there is no result. Not having waited is no failure; parked work, or a wait that was too short, is."""
    if found.state == ResourceState.PARKED:
        fail(f"parked as {found.park_reason}: {found.last_error}; `verisink show` says more")
    if waited:
        error = f"; the last error was: {found.last_error}" if found.last_error else "; is a worker running?"
        fail(f"not retrieved yet, and still {found.state}{error}")
    if not as_json:
        click.echo("wanted: a running worker retrieves it as soon as the budget allows")
