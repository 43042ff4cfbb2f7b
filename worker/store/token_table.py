"""The table of the API's tokens. It lies beside `worker.store.tables`, which is long enough."""

from sqlalchemy import Column, Index, String, Table, UniqueConstraint, Uuid, text

from worker.store.tables import metadata
from worker.store.types import SafeText, UtcDateTime

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("sha256", String(64), nullable=False, comment="of the token, which is stored nowhere"),
    Column("scopes", SafeText, nullable=False, comment="parted by spaces"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", SafeText, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime, comment="to the minute"),
    UniqueConstraint("sha256"),
    # A name is free again once its token is revoked; the old row stays, for whoever reads the audit.
    Index("uq_api_tokens_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL"),
          sqlite_where=text("revoked_at IS NULL")),
)  # fmt: skip
