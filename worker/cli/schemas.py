"""`verisink schemas`: the JSON Schemas of the events, printed or written into a folder."""

import json
from pathlib import Path

import click

from worker.cli.common import fail, json_option
from worker.cli.output import print_json
from worker.domain.strict_json import Json
from worker.reports.event_models import schemas as published


@click.command(epilog="Example: verisink schemas verification.result.decided")
@click.argument("name", required=False)
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Write a file for each into this folder.")
@json_option
def schemas(name: str | None, folder: Path | None, as_json: bool) -> None:
    """Print the JSON Schema of an event type, or the names of all; a schema is JSON in any case."""
    if name is None or folder is not None:
        lines = [*published()] if folder is None else [str(path) for path in write(folder)]
        if as_json:
            print_json(lines)
        else:
            click.echo("\n".join(lines))
    else:
        schema = published().get(name)
        if schema is None:
            fail(f"there is no event type {name}; `verisink schemas` lists them")
        click.echo(_text(schema), nl=False)


def write(folder: Path) -> list[Path]:
    """Write every schema into `folder`, which is made if it is missing; returns the files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, schema in published().items():
        path = folder / f"{name}.json"
        path.write_text(_text(schema), "utf-8")
        files.append(path)
    return files


def _text(schema: Json) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
