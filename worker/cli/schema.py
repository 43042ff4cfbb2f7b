"""`verisink schema`."""

from pathlib import Path

import click

from worker.cli.common import fail, guarded, json_option
from worker.cli.output import print_json
from worker.reports import results_database


@click.command(epilog="Example: verisink schema --dbt --write models/sources.yml")
@click.option("--dbt", is_flag=True, help="As sources of dbt, with tests.")
@click.option("--write", "path", type=click.Path(dir_okay=False, path_type=Path), help="Into this file.")
@json_option
@guarded
def schema(dbt: bool, path: Path | None, as_json: bool) -> None:
    """Describe the results database: each view, column by column. Needs no settings and no database."""
    if as_json and (dbt or path):
        raise click.UsageError("--json prints the description by itself: leave --dbt and --write out")
    if as_json:
        print_json(results_database.described())
        return
    text = results_database.dbt_sources() if dbt else results_database.markdown()
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
