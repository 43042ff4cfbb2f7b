"""What the commands share: the settings, the database, and one clear sentence where either cannot be used."""

import functools
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn, ParamSpec

import click

from worker import log, settings
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.times import read_time
from worker.errors import SchemaMismatch, VerisinkError
from worker.runtime import Runtime
from worker.settings import Settings, masked_url
from worker.store import schema
from worker.store.engine import UNAVAILABLE
from worker.store.types import storable

Arguments = ParamSpec("Arguments")

FAILED = 1

ACTOR = "cli"
"""Who an audit entry names for what was done by a command."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The most lines to print."
)


class Line(click.ParamType[str]):
    """Text that can be looked for. Bytes that are no text come from the shell as surrogates, and are in no database."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        text = str(value)
        if storable(text) != text:
            self.fail("holds characters that no database can hold", param, ctx)
        return text


class Time(click.ParamType[datetime]):
    """An ISO 8601 time. Without a zone it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time as an aware datetime."""
        found = read_time(str(value))
        if found is None:
            self.fail(f"{value!r} is no ISO 8601 time such as 2026-01-31T12:00:00Z", param, ctx)
        return found


def guarded(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """A command whose expected trouble is one sentence on standard error, and exit status 1."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except VerisinkError as error:
            fail(str(error))
        except UNAVAILABLE as error:
            fail(
                f"the database cannot be used ({type(error).__name__}): check VERISINK_DATABASE_URL and that its "
                "server runs; `verisink doctor` says more"
            )

    return run


def fail(sentence: str) -> NoReturn:
    """Say what went wrong, and end with exit status 1."""
    click.echo(sentence, err=True)
    raise click.exceptions.Exit(FAILED)


def load() -> Settings:
    """The settings, with logging set up: only warnings, because what a command prints is its answer."""
    loaded = settings.load()
    log.configure("warning", loaded.log_format)
    return loaded


@contextmanager
def opened(*, migrated: bool = True) -> Iterator[Runtime]:
    """The application on the configured database, which must be migrated unless the command does that."""
    runtime = Runtime(load())
    try:
        if migrated:
            _require_file(runtime.settings)
            schema.require_current(runtime.database)
        yield runtime
    finally:
        runtime.database.dispose()


def operator() -> str:
    """Who an audit entry names where it matters which person it was: the operating system's user."""
    try:
        return f"{ACTOR}:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        # In containers a user often has a number and no name.
        return f"{ACTOR}:{os.getuid()}"


def nudge(runtime: Runtime, source: str) -> None:
    """Tell the workers of a source that it has work, where they are in other processes."""
    if runtime.settings.embedded:
        # The worker lives inside `verisink up`, and its sweep looks every second.
        return
    runtime.nudger.start()
    runtime.nudger.nudge(source)
    runtime.nudger.stop()


def database_name(loaded: Settings) -> str:
    """The database for people to read: its URL without user, password and query."""
    return masked_url(loaded.database_url.get_secret_value())


def sqlite_file(loaded: Settings) -> Path | None:
    """The file of an embedded database."""
    if not loaded.is_sqlite:
        return None
    return Path(loaded.database_url.get_secret_value().removeprefix("sqlite:///").partition("?")[0])


def _require_file(loaded: Settings) -> None:
    path = sqlite_file(loaded)
    if path is not None and not path.exists():
        # Connecting would make an empty one, and leave it behind where somebody only looked.
        raise SchemaMismatch(f"there is no database at {path} yet: run `verisink up` or `verisink migrate`")


def key(source: str, kind: str, external_id: str) -> ResourceKey:
    """A resource's name from the command line; what cannot be one is wrong usage."""
    try:
        return ResourceKey(source, ResourceRef(kind, external_id))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def resource_arguments(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """SOURCE KIND ID."""
    for name in ("external_id", "kind", "source"):
        metavar = "ID" if name == "external_id" else name.upper()
        command = click.argument(name, type=Line(), metavar=metavar)(command)
    return command
