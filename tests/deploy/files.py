"""The files of `deploy/` and the Dockerfile, as data."""

import re
import tomllib
from pathlib import Path

import yaml
from pydantic import JsonValue

from tests.support.processes import ROOT
from web.supervising import worker_grace
from worker.settings import Settings

DEPLOY = ROOT / "deploy"
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
IMAGE = f"verisink:{VERSION}"
USER = 10001

WORKER_GRACE = worker_grace(Settings())
"""What a worker may take to end; whoever stops it must wait for longer."""

Value = JsonValue
Node = dict[str, Value]


def documents(path: Path) -> list[Node]:
    """The documents of a YAML file, which must all be mappings."""
    found = list(yaml.safe_load_all(path.read_text("utf-8")))
    assert found
    assert all(isinstance(document, dict) for document in found)
    return found


def at(node: Value, *steps: str) -> Value:
    """What stands in a document at this place; fails, naming the place, if nothing does."""
    for number, step in enumerate(steps):
        assert isinstance(node, dict), ".".join(steps[:number])
        assert step in node, ".".join(steps[: number + 1])
        node = node[step]
    return node


def mapping(node: Value, *steps: str) -> Node:
    """The mapping at this place."""
    found = at(node, *steps)
    assert isinstance(found, dict), steps
    return found


def items(node: Value, *steps: str) -> list[Value]:
    """The list at this place."""
    found = at(node, *steps)
    assert isinstance(found, list), steps
    return found


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: their words, and what stands behind them on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)]
