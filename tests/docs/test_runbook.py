"""The commands of the runbook exist, with their options: nobody should find out at night."""

import re
import shlex
from pathlib import Path

import click
import pytest

from web.main import main

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")


def commands() -> list[str]:
    """Every command in a code span or block, on one line."""
    blocks = re.findall(r"^\$ (verisink [^#\n]+)", RUNBOOK, re.MULTILINE)
    spans = re.findall(r"`(verisink [^`]+)`", RUNBOOK)
    return sorted({" ".join(command.split()) for command in blocks + spans})


def parse(command: str) -> None:
    """Raises ClickException where there is no such command, option or value."""
    found: click.Command = main
    context = click.Context(main, info_name="verisink")
    words = shlex.split(command)[1:]
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        name, found, words = found.resolve_command(context, words)  # type: ignore[assignment]
        context = click.Context(found, info_name=name, parent=context)
    known = {option for parameter in found.params for option in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    if given - known:
        raise click.UsageError(f"{command}: {given - known}")
    for parameter in found.params:
        for option in set(parameter.opts) & given:
            if isinstance(parameter.type, click.Choice):
                parameter.type.convert(words[words.index(option) + 1], parameter, context)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_runbook_exists(command):
    parse(command)


def test_there_are_commands():
    assert len(commands()) > 15


@pytest.mark.parametrize(
    "command", ["verisink nothing", "verisink status --nothing", "verisink deliveries --state parked"]
)
def test_the_check_can_fail(command):
    with pytest.raises(click.ClickException):
        parse(command)
