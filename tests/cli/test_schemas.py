"""`verisink schemas`: the published schemas, from the command line."""

import json
from pathlib import Path

from click.testing import CliRunner

from worker.cli.schemas import schemas
from worker.reports.event_models import schemas as published

DECIDED = "verification.result.decided"


def test_names_are_listed() -> None:
    assert CliRunner().invoke(schemas).output.split() == [*published()]
    assert json.loads(CliRunner().invoke(schemas, ["--json"]).output) == [*published()]


def test_one_is_printed() -> None:
    assert json.loads(CliRunner().invoke(schemas, [DECIDED]).output) == published()[DECIDED]


def test_a_type_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(schemas, ["verification.result.dreamt"])

    assert result.exit_code == 1
    assert "verification.result.dreamt" in result.output


def test_a_folder_gets_a_file_for_each(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    result = CliRunner().invoke(schemas, ["--write", str(folder)])

    assert result.exit_code == 0
    assert {path.stem for path in folder.iterdir()} == {*published()}
    assert json.loads((folder / f"{DECIDED}.json").read_text("utf-8")) == published()[DECIDED]
