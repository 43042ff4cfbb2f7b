"""`verisink migrate`."""

import click

from worker.cli.common import database_name, guarded, json_option, opened
from worker.cli.output import print_json
from worker.store import schema


@click.command(epilog="Example: verisink migrate")
@json_option
@guarded
def migrate(as_json: bool) -> None:
    """Bring the database to the newest schema. Doing it again changes nothing; two at once wait for each other."""
    with opened(migrated=False) as runtime:
        before, after = schema.migrate(runtime.database)
        name = database_name(runtime.settings)
    if as_json:
        print_json({"database": name, "before": before, "after": after})
    elif before == after:
        click.echo(f"{name} is at schema {after} already")
    else:
        click.echo(f"{name} went from schema {before or 'nothing'} to {after}")
