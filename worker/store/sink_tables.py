"""The tables about sinks that are in trouble. A sink that takes everything has no row in any of them.

They stand beside `event_deliveries`, and not in it: what waits is looked for at every batch and must be small, while
the log of what was delivered only grows.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, text

from worker.store.tables import metadata
from worker.store.types import SafeText, UtcDateTime

sink_states = Table(
    "sink_states",
    metadata,
    Column("sink", String(63), primary_key=True),
    Column("held_at", UtcDateTime),
    Column("hold_reason", SafeText),
    Column("away_since", UtcDateTime, comment="when the failures began; null while the sink takes events"),
    Column("due_at", UtcDateTime, comment="when a sink that is away is tried again"),
    Column("failures", Integer, nullable=False, server_default=text("0"), comment="in a row, of the whole sink"),
    Column("tried", BigInteger, comment="the last event of the call that failed"),
    Column("last_error", SafeText),
)

undelivered_events = Table(
    "undelivered_events",
    metadata,
    Column("sink", String(63), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("resource", SafeText, nullable=False, comment="source, kind and id: its events wait for each other"),
    Column("state", String(16), nullable=False, comment="waiting or given_up"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("since", UtcDateTime, nullable=False, comment="since when it waits, or when it was given up"),
    Column("due_at", UtcDateTime, comment="when it is tried next; null while it waits for one before it"),
    Column("last_error", SafeText),
    Index("ix_undelivered_events_sequence", "sink", "state", "sequence"),
    Index("ix_undelivered_events_due", "sink", "state", "due_at"),
    Index("ix_undelivered_events_resource", "sink", "state", "resource", "sequence"),
)
