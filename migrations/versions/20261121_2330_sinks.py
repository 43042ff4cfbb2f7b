"""What is known of a sink in trouble: who holds it, since when it is away, and which events it was not given."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sink_states",
        sa.Column("sink", sa.String(length=63), nullable=False),
        sa.Column("held_at", UTC_TIME, nullable=True),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column(
            "away_since",
            UTC_TIME,
            nullable=True,
            comment="when the failures began; null while the sink takes events",
        ),
        sa.Column("due_at", UTC_TIME, nullable=True, comment="when a sink that is away is tried again"),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="in a row, of the whole sink",
        ),
        sa.Column("tried", sa.BigInteger(), nullable=True, comment="the last event of the call that failed"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sink", name="pk_sink_states"),
    )
    op.create_table(
        "undelivered_events",
        sa.Column("sink", sa.String(length=63), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "resource",
            sa.Text(),
            nullable=False,
            comment="source, kind and id: its events wait for each other",
        ),
        sa.Column("state", sa.String(length=16), nullable=False, comment="waiting or given_up"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("since", UTC_TIME, nullable=False, comment="since when it waits, or when it was given up"),
        sa.Column(
            "due_at",
            UTC_TIME,
            nullable=True,
            comment="when it is tried next; null while it waits for one before it",
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sink", "sequence", name="pk_undelivered_events"),
    )
    for name, columns in (
        ("sequence", ["sink", "state", "sequence"]),
        ("due", ["sink", "state", "due_at"]),
        ("resource", ["sink", "state", "resource", "sequence"]),
    ):
        op.create_index(f"ix_undelivered_events_{name}", "undelivered_events", columns, unique=False)


def downgrade() -> None:
    """Going back would lose what was stored since; restore a backup instead."""
    raise NotImplementedError("migrations only go forward: restore a backup to go back")
