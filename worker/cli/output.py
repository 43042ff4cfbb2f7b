"""What the commands print: one JSON document, or tables that a terminal, a pipe and a person can read."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.reports.build import json_text, time_text

PIPE_WIDTH = 300
"""Not on a terminal nothing is cut off or wrapped, because other programs read the lines."""

_STYLES = {
    "ok": "green", "warn": "yellow", "fail": "bold red",
    "approved": "green", "passed": "green", "rejected": "red", "failed": "red", "crashed": "red",
    "parked": "bold red", "held": "bold red", "throttled": "yellow", "unreadable": "red", "unmapped": "yellow",
    "overdue": "bold red", "away": "yellow", "refusing": "yellow", "given_up": "bold red", "delivered": "green",
}  # fmt: skip


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json_text(value, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; a list without rows says so."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    if table.row_count:
        console.print(table)
    else:
        console.print(f"{title}: none", markup=False)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; what is not there is left out."""
    for name, value in facts:
        if value is not None:
            click.echo(f"{name + ':':<24}{plain(value)}")


def cell(value: object) -> Text:
    """A value in a table, coloured if it is one of the closed vocabularies."""
    text = plain(value)
    return Text(text, style=_STYLES.get(text, ""))


def plain(value: object) -> str:
    """A value as one line. Providers choose some of these texts, so what could steer a terminal is replaced."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return time_text(value)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(value))


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} days"
