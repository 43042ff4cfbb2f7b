"""`verisink show`: all about one resource. Its document is personal data, and printed only when asked for."""

import dataclasses

import click

from worker.cli.common import fail, guarded, json_option, key, opened, resource_arguments
from worker.cli.lists import show_list
from worker.cli.output import print_facts, print_json, print_table
from worker.domain.strict_json import Json
from worker.pipeline import operate_sinks
from worker.reports import resources as work
from worker.reports.resources import Resource, Story
from worker.reports.results import Check, ResultDetail
from worker.reports.sinks import deliveries_of

VERSION_COLUMNS = ("version", "stage", "outcome", "provider_status", "retrieved_at", "cause", "erased_at")
ATTEMPT_COLUMNS = ("number", "started_at", "finished_at", "cause", "outcome", "error", "http_status", "detail")
DELIVERY_COLUMNS = ("received_at", "event_type", "state", "repeats", "id")
EVENT_COLUMNS = ("sequence", "occurred_at", "type", "version")
SINK_COLUMNS = ("sink", "sequence", "state", "attempts", "delivered_at", "last_error")

_PERSONAL = {"document", "details"}
"""What a provider says about the person, besides verdicts, checks and ids."""


@click.command(epilog="Example: verisink show persona-live verification/selfie ver_123 --document")
@resource_arguments
@click.option("--document", is_flag=True, help="Print the document too: it is personal data.")
@json_option
@guarded
def show(source: str, kind: str, external_id: str, document: bool, as_json: bool) -> None:
    """One resource: its result, checks, versions, attempts, deliveries and events."""
    wanted = key(source, kind, external_id)
    with opened() as runtime, runtime.database.read() as session:
        story = work.story(session, wanted)
        numbers = [event.sequence for event in story.events] if story is not None else []
        delivered = deliveries_of(session, operate_sinks.names(runtime.settings), numbers)
    if story is None:
        fail(f"nobody ever asked for {kind} {external_id} of source {source}")
    if as_json:
        result = story.result and result_fields(story.result, whole=document)
        print_json({**_fields(story), "result": result, "event_deliveries": delivered})
    else:
        _print(story)
        show_list("at the sinks", delivered, SINK_COLUMNS, as_json=False)
        if document and story.result is not None:
            _print_document(story.result.document)


def result_fields(result: ResultDetail, *, whole: bool) -> dict[str, object]:
    """A result for JSON, with or without what is personal."""
    hidden = set() if whole else _PERSONAL
    fields = {name: value for name, value in _fields(result).items() if name not in hidden}
    checks = [{name: value for name, value in _fields(check).items() if name not in hidden} for check in result.checks]
    return {**fields, "checks": checks}


def print_result(result: ResultDetail) -> None:
    """A result's verdict and checks."""
    names = (
        "reference", "stage", "outcome", "final", "derived", "provider_status", "score", "version", "retrieved_at",
        "completed_at",
    )  # fmt: skip
    print_facts((name, getattr(result, name)) for name in names)
    print_table("checks", ("check", "outcome", "score", "required", "reasons"), map(_check_cells, result.checks))


def _fields(row: Story | ResultDetail | Check) -> dict[str, object]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _check_cells(check: Check) -> tuple[object, ...]:
    return check.name, check.outcome, check.score, check.required, ", ".join(map(str, check.reasons)) or None


def _print(story: Story) -> None:
    _print_resource(story.resource)
    if story.result is None:
        click.echo("no result yet")
    else:
        print_result(story.result)
    show_list("versions", story.versions, VERSION_COLUMNS, as_json=False)
    show_list("attempts", story.attempts, ATTEMPT_COLUMNS, as_json=False)
    show_list("deliveries", story.deliveries, DELIVERY_COLUMNS, as_json=False)
    show_list("events", story.events, EVENT_COLUMNS, as_json=False)


def _print_resource(found: Resource) -> None:
    click.echo(f"{found.source} {found.kind} {found.external_id} ({found.provider}, {found.environment})")
    names = ("state", "park_reason", "parked_at", "last_error", "wanted_since", "due_at", "attempts", "failures")
    print_facts((name, getattr(found, name)) for name in names)


def _print_document(document: Json) -> None:
    if document is None:
        click.echo("the document was erased")
    else:
        print_json(document)
