"""`verisink`: a group whose commands are imported when they are used, so that help and completion answer at once."""

import importlib
from collections.abc import Mapping
from typing import TypeAlias

import click

Lazy: TypeAlias = tuple[str, str]
"""Where a command is, as `module:name`, and what it does, in one line."""

COMMANDS: Mapping[str, Lazy] = {
    "migrate": ("worker.cli.migrate:migrate", "The database to the newest schema."),
    "schema": ("worker.cli.schema:schema", "Describes the results database, column by column."),
    "grants": ("worker.cli.grants:grants", "Prints the SQL of read-only roles for PostgreSQL."),
    "doctor": ("worker.cli.doctor:doctor", "Checks settings, database, broker, clock and credentials."),
    "status": ("worker.cli.status:status", "Open work, held sources, and how far the sinks are."),
    "results": ("worker.cli.lists:results", "Lists results."),
    "show": ("worker.cli.show:show", "All about one resource."),
    "events": ("worker.cli.events:events", "Lists events, or follows them."),
    "schemas": ("worker.cli.schemas:schemas", "Prints the JSON Schemas of the events."),
    "resources": ("worker.cli.lists:resources", "Lists resources and where they stand."),
    "deliveries": ("worker.cli.lists:deliveries", "Lists what the providers sent."),
    "attempts": ("worker.cli.lists:attempts", "Lists retrieve calls and how they ended."),
    "retrieve": ("worker.cli.retrieve:retrieve", "Retrieves one resource, now or as soon as the budget allows."),
    "replay": ("worker.cli.replay:replay", "Does a selection of work again: parked work, a lane, a time window."),
    "replays": ("worker.cli.replays:replays", "Lists replays; shows, pauses, resumes and cancels one."),
    "lanes": ("worker.cli.replays:lanes", "Lists parked work by where and how it stopped."),
    "reconcile": ("worker.cli.reconcile:reconcile", "Asks a provider what exists, and retrieves what is missing."),
    "reconciliations": ("worker.cli.reconcile:reconciliations", "Lists reconciliations and what they found."),
    "hold": ("worker.cli.hold:hold", "Stops calling a source; its webhooks are still taken."),
    "release": ("worker.cli.hold:release", "Lets a held or throttled source be called again."),
    "sinks": ("worker.cli.sinks:sinks", "Lists sinks; holds, releases, resends; shows what was delivered."),
    "expect": ("worker.cli.expectations:expect", "Expects a result by a time."),
    "expectations": ("worker.cli.expectations:expectations", "Lists expected results."),
    "token": ("worker.cli.token:token", "Makes, lists and revokes tokens of the API."),
}
"""The commands that need no server."""

HELP = "Verisink: webhook in, verified result out."
EPILOG = "Every command has --help with an example. Exit status: 0 done, 1 failed, 2 wrong usage."


class LazyGroup(click.Group):
    """A group that imports a command only to run it, or to show its own help."""

    def __init__(self, name: str = "verisink", *, commands: Mapping[str, Lazy]) -> None:
        super().__init__(name, help=HELP, epilog=EPILOG, no_args_is_help=True)
        self._lazy = dict(commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the mapping."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported now."""
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}:{name} is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, from the mapping alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


cli = LazyGroup(commands=COMMANDS)
