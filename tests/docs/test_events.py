"""The published schemas are those of the code, and the page beside them is about all of them."""

import json
import re
from pathlib import Path

import pytest

from tests.support.event_schemas import faults
from worker.cli.schemas import write
from worker.domain.states import EventType
from worker.domain.strict_json import Json

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "events"
PAGE = (FOLDER / "README.md").read_text("utf-8")
RESULT, OTHERS = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def envelope(event_type: str, data: dict[str, Json]) -> dict[str, Json]:
    subject: dict[str, Json] = {"subject": RESULT["subject"]} if "external_id" in data else {}
    bare = {name: value for name, value in RESULT.items() if name != "subject"}
    return {**bare, **subject, "type": event_type, "data": data}


def test_the_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    """If this fails: verisink schemas --write docs/events"""
    written = {path.name: path.read_text("utf-8") for path in write(tmp_path / "new")}

    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")} == written


@pytest.mark.parametrize("event_type", EventType)
def test_the_page_says_when_each_is_sent(event_type: str) -> None:
    assert f"| [`{event_type}`]({event_type}.json) |" in PAGE


@pytest.mark.parametrize("event_type", [one for one in EventType if one.startswith("verification.result")])
def test_the_example_of_a_result_is_one(event_type: str) -> None:
    assert faults({**RESULT, "type": event_type}) == []


@pytest.mark.parametrize("event_type", OTHERS)
def test_the_other_examples_are_too(event_type: str) -> None:
    assert faults(envelope(event_type, OTHERS[event_type])) == []


def test_every_type_has_an_example() -> None:
    assert {one for one in EventType if not one.startswith("verification.result")} == set(OTHERS)
