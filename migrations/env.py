"""How Alembic runs: one migration at a time, in one transaction, never waiting long for a lock that readers hold."""

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, text

LOCK_TIMEOUT = "5s"
"""A migration that waits for a lock makes every later query wait behind it. Better to fail, and to try again."""

ADVISORY_LOCK = 7_236_143_901
"""Any number that no other user of the database takes: two deployments that migrate at once go one after the other."""


def run(connection: Connection) -> None:
    # Begun here, because Alembic gives SQLite a transaction for each migration, and what it read before the first of
    # them is no longer true when another deployment migrates at the same time.
    with connection.begin():
        context.configure(connection=connection, target_metadata=context.config.attributes.get("metadata"))
        if connection.dialect.name == "postgresql":
            # The advisory lock may be waited for, which the connection's own time-outs would end; the tables' may not.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


def engine() -> Engine:
    """The engine that the application hands over; on the command line, the URL given with `-x url=…`."""
    given = context.config.attributes.get("engine")
    if isinstance(given, Engine):
        return given
    return create_engine(context.get_x_argument(as_dictionary=True)["url"])


with engine().connect() as handle:
    run(handle)
