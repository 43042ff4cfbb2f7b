"""`metadata` with every table in it: for whatever looks at the schema as a whole."""

from worker.store import token_table
from worker.store.tables import metadata

__all__ = ["metadata", "token_table"]
