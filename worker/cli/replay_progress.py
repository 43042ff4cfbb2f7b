"""Watching a replay: a bar on a terminal, lines elsewhere, and a word when nobody works on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.cli.interrupt import interruptible
from worker.clock import monotonic
from worker.reports.replays import Replay, idle_seconds
from worker.store.engine import Database

POLL_SECONDS = 0.3

LINE_SECONDS = 2.0
"""Between two lines where there is no terminal. A log does not need every step."""

IDLE_SECONDS = 10.0
"""A worker sweeps every second, and another takes over five seconds after it died."""


def follow(look: Callable[[], Replay], database: Database, *, silent: bool) -> Replay:
    """Watch until the replay has ended or Ctrl-C is pressed, or at once if no worker runs; returns how it stands."""
    found = look()
    with interruptible() as interrupted, _shown(found, silent=silent) as show:
        idle = _idle(database)
        if idle is not None:
            click.echo(f"{idle}: it waits until one runs (`verisink up` or `verisink worker`)", err=True)
            return found
        told = False
        while found.finished_at is None and not interrupted():
            time.sleep(POLL_SECONDS)
            found = look()
            show(found)
            idle = _idle(database)
            if idle is not None and not told:
                click.echo(f"{idle}: the replay goes on when one does", err=True)
            told = idle is not None
    return found


def _idle(database: Database) -> str | None:
    """One clause if nobody advances replays."""
    with database.read() as session:
        seconds = idle_seconds(session)
    if seconds is None:
        return "no worker has ever run here"
    return f"no worker has been seen for {seconds:.0f} s" if seconds > IDLE_SECONDS else None


@contextmanager
def _shown(started: Replay, *, silent: bool) -> Iterator[Callable[[Replay], None]]:
    console = Console(highlight=False)
    if silent:
        yield lambda found: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("{task.fields[words]}"))  # fmt: skip
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(started.level, total=started.total, words="")
            yield lambda found: bar.update(task, completed=found.done, words=words(found))
    else:
        yield _Lines().show


class _Lines:
    def __init__(self) -> None:
        self._last = ""
        self._next_at = 0.0

    def show(self, found: Replay) -> None:
        """A line, if there is something new and the last one is some time ago."""
        line = f"{found.done} of {found.total} done: {words(found)}"
        if line != self._last and (monotonic() >= self._next_at or found.finished_at is not None):
            click.echo(line)
            self._last, self._next_at = line, monotonic() + LINE_SECONDS


def words(found: Replay) -> str:
    """How the items stand, in words."""
    counts = [f"{count} {outcome}" for outcome, count in sorted(found.outcomes.items())]
    if found.asked:
        counts.append(f"{found.asked} on their way")
    if found.state != "running" and found.finished_at is None:
        counts.append(found.state)
    return ", ".join(counts)
