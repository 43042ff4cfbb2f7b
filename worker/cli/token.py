"""`verisink token`: who may use the API."""

import re
from datetime import timedelta

import click

from worker.cli.common import Line, fail, guarded, json_option, opened, operator
from worker.cli.output import print_json, print_table
from worker.domain.scopes import Scope
from worker.pipeline import api_tokens
from worker.pipeline.api_tokens import KNOWN_SECONDS, Order
from worker.reports.api_tokens import TokenRow, tokens

COLUMNS = ("name", "state", "scopes", "created_at", "created_by", "last_used_at", "expires_at", "revoked_at")

_LIFE = re.compile(r"([1-9]\d{0,4})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Life(click.ParamType[timedelta]):
    """How long something lives: 12h, 90d."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The span."""
        if isinstance(value, timedelta):
            return value
        found = _LIFE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no span such as 12h or 90d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.group(invoke_without_command=True, epilog="Example: verisink token create dashboard --scope results:read")
@json_option
@click.pass_context
@guarded
def token(context: click.Context, as_json: bool) -> None:
    """List the API's tokens; or make or revoke one. Those of the settings are not among them."""
    if context.invoked_subcommand is None:
        _print_list(as_json=as_json)


@token.command(epilog="Example: verisink token create dashboard --scope results:read --expires 90d")
@click.argument("name", type=Line())
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; several times for several scopes.",
)
@click.option("--expires", type=Life(), help="How long it is good: 12h, 90d. Without it, until it is revoked.")
@json_option
@guarded
def create(name: str, scopes: tuple[str, ...], expires: timedelta | None, as_json: bool) -> None:
    """Make a token, and print it: this once, because only its digest is stored."""
    order = Order(name, frozenset(map(Scope, scopes)), operator(), expires)
    with opened() as runtime:
        reserved = [known.name for known in runtime.settings.api_tokens]
        with runtime.database.write() as session:
            made = api_tokens.create(session, order, reserved=reserved)
        with runtime.database.read() as session:
            [row] = [row for row in tokens(session) if row.name == name and row.revoked_at is None]
    if as_json:
        print_json({"token": made, "name": row.name, "scopes": row.scopes, "expires_at": row.expires_at})
        return
    # The token alone on standard output, so that a script can take it from there.
    click.echo(made)
    click.echo("Keep it now: it cannot be shown again. Send it as `Authorization: Bearer <token>`.", err=True)


@token.command("list", epilog="Example: verisink token list --json")
@json_option
@guarded
def list_tokens(as_json: bool) -> None:
    """List the tokens that were made, revoked ones too."""
    _print_list(as_json=as_json)


@token.command(epilog="Example: verisink token revoke dashboard")
@click.argument("name", type=Line())
@json_option
@guarded
def revoke(name: str, as_json: bool) -> None:
    """Make a token good for nothing."""
    with opened() as runtime, runtime.database.write() as session:
        ended = api_tokens.revoke(session, name, actor=operator())
    if not ended:
        fail(f"there is no token {name} that could be revoked; `verisink token list` shows all")
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        click.echo(f"{name} is revoked; every process refuses it within {KNOWN_SECONDS:.0f} seconds")


def _print_list(*, as_json: bool) -> None:
    with opened() as runtime, runtime.database.read() as session:
        found = tokens(session)
    if as_json:
        print_json(found)
    else:
        print_table("tokens", COLUMNS, (_cells(row) for row in found))


def _cells(row: TokenRow) -> list[object]:
    return [" ".join(row.scopes) if name == "scopes" else getattr(row, name) for name in COLUMNS]
