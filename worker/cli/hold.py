"""`verisink hold` and `verisink release`."""

import click

from worker.cli.common import Line, guarded, json_option, nudge, opened, operator
from worker.cli.output import print_json
from worker.pipeline import operate
from worker.reports.status import SourceStatus, one_source
from worker.runtime import Runtime


@click.command(epilog="Example: verisink hold persona-live --reason 'the key is being rotated'")
@click.argument("source", type=Line())
@click.option("--reason", type=Line(), required=True, help="Why, for whoever looks later.")
@json_option
@guarded
def hold(source: str, reason: str, as_json: bool) -> None:
    """Stop calling a source until it is released. Its webhooks are still taken, and its work waits."""
    if not reason.strip():
        raise click.UsageError("say why, with --reason")
    with opened() as runtime:
        with runtime.database.write() as session:
            changed = operate.hold(session, runtime.settings, source, actor=operator(), reason=reason.strip())
        found = _standing(runtime, source)
    if as_json:
        print_json({"changed": changed, "source": found})
    elif changed:
        click.echo(f"{source} is held; calls that are under way end by themselves")
    else:
        click.echo(f"{source} is held already: {found.reason}")


@click.command(epilog="Example: verisink release persona-live --reason 'the new key is in'")
@click.argument("source", type=Line())
@click.option("--reason", type=Line(), help="Why, for whoever looks later.")
@json_option
@guarded
def release(source: str, reason: str | None, as_json: bool) -> None:
    """Let a source be called again: ends a hold of any kind, and a wait that the provider asked for."""
    with opened() as runtime:
        with runtime.database.write() as session:
            done = operate.release(session, runtime.settings, source, actor=operator(), reason=reason)
        if done.changed:
            nudge(runtime, source)
        found = _standing(runtime, source)
    if as_json:
        print_json({"changed": done.changed, **_ended(done), "source": found})
        return
    ended = [name for name, was in (("hold", done.hold), ("throttle", done.throttle)) if was]
    if ended:
        click.echo(f"{source}: {' and '.join(ended)} ended; {found.waiting} resources are waiting")
    else:
        click.echo(f"{source} was neither held nor throttled")


def _ended(done: operate.Released) -> dict[str, bool]:
    return {"hold_ended": done.hold, "throttle_ended": done.throttle}


def _standing(runtime: Runtime, source: str) -> SourceStatus:
    with runtime.database.read() as session:
        return one_source(session, source)
