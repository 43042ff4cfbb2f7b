"""`verisink grants`."""

import click

from worker.cli.common import fail, guarded, json_option, load
from worker.cli.output import print_json
from worker.store.grants import GrantNames, granting, revoking

NOTHING_ON_SQLITE = (
    "SQLite has no roles, so there is nothing to grant: whoever can read the database's file reads everything in it"
)

HEADER = """\
-- Read-only roles for the results database. Run it in Verisink's database, as the owner of its tables with CREATEROLE
-- or as a superuser, and again after an upgrade; all of it happens, or nothing:
--   verisink grants | psql -v ON_ERROR_STOP=1 "$VERISINK_DATABASE_URL"
-- The roles cannot log in. Make a login for each consumer, and grant it the role that it may have:
--   CREATE ROLE metabase LOGIN PASSWORD '…' IN ROLE <role>;
-- One without personal data finds its views by their short names after
--   ALTER ROLE metabase SET search_path = <schema of those views>;
"""

REVOKING_HEADER = """\
-- Takes back what `verisink grants` gave. The roles themselves stay; DROP ROLE removes them.
"""


@click.command(epilog="Example: verisink grants --reader analysts --personal-reader auditors | psql")
@click.option("--reader", default="verisink_reader", show_default=True, help="The role without personal data.")
@click.option(
    "--personal-reader", default="verisink_personal_reader", show_default=True, help="The role with personal data."
)
@click.option("--schema", default="public", show_default=True, help="The schema that Verisink's tables are in.")
@click.option(
    "--reader-schema",
    default="verisink_results",
    show_default=True,
    help="The schema that gets the views without personal data.",
)
@click.option("--revoke", is_flag=True, help="Print the SQL that takes it back.")
@json_option
@guarded
def grants(*, reader: str, personal_reader: str, schema: str, reader_schema: str, revoke: bool, as_json: bool) -> None:
    """Print the SQL that makes two read-only roles on PostgreSQL, one without personal data. Nothing is run."""
    try:
        names = GrantNames(reader, personal_reader, schema, reader_schema)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if load().is_sqlite:
        fail(NOTHING_ON_SQLITE)
    statements = revoking(names) if revoke else granting(names)
    if as_json:
        print_json(statements)
    else:
        click.echo((REVOKING_HEADER if revoke else HEADER) + "\n" + "\n\n".join(statements))
