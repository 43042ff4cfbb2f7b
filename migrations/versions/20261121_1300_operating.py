"""Replays, reconciliations, expectations, and the lanes of parked work."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)
JSON_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column(
        "resources",
        sa.Column("park_step", sa.String(length=16), nullable=True, comment="where it stopped: call, read or write"),
    )
    op.add_column(
        "resources",
        sa.Column(
            "park_fingerprint",
            sa.String(length=16),
            nullable=True,
            comment="equal for failures that look alike; with the step it is a lane",
        ),
    )
    _replays()
    _reconciliations()
    _expectations()


def downgrade() -> None:
    """Going back would lose what was stored since; restore a backup instead."""
    raise NotImplementedError("migrations only go forward: restore a backup to go back")


def _replays() -> None:
    op.create_table(
        "replays",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("selection", JSON_DOCUMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column(
            "outcomes",
            JSON_DOCUMENT,
            nullable=False,
            comment="how many items ended how, so that progress scans nothing",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
    )
    op.create_index("ix_replays_created_at", "replays", ["created_at"], unique=False)
    op.create_index(
        "ix_replays_open",
        "replays",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "replay_items",
        sa.Column("replay_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("resource_id", BIG_ID, nullable=True),
        sa.Column("delivery_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column(
            "wanted",
            sa.Integer(),
            nullable=True,
            comment="what the resource's `wanted` became when this item asked for it",
        ),
        sa.Column("attempts", sa.Integer(), nullable=True, comment="how many attempts the resource had had by then"),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.PrimaryKeyConstraint("replay_id", "position", name="pk_replay_items"),
        sa.ForeignKeyConstraint(
            ["replay_id"], ["replays.id"], name="fk_replay_items_replay_id_replays", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_replay_items_resource_id_resources"),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name="fk_replay_items_delivery_id_deliveries", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_replay_items_replay_id_state_source_position",
        "replay_items",
        ["replay_id", "state", "source", "position"],
        unique=False,
    )
    op.create_index("ix_replay_items_delivery_id", "replay_items", ["delivery_id"], unique=False)


def _reconciliations() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("since", UTC_TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "listed",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="resources that the provider named",
        ),
        sa.Column(
            "missing", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="of these, never told of here"
        ),
        sa.Column(
            "outdated",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="newer there, and nothing was open",
        ),
        sa.Column(
            "reread", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="read again because not final"
        ),
        sa.Column(
            "announced",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="of the listed, those that webhooks tell of",
        ),
        sa.Column(
            "lost",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="of the announced, those found missing or outdated",
        ),
        sa.Column(
            "parked",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="of the listed, parked and left so",
        ),
        sa.Column(
            "unreadable",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="entries that named nothing",
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reconciliations"),
    )
    op.create_index("ix_reconciliations_source_id", "reconciliations", ["source", "id"], unique=False)
    op.create_index(
        "ix_results_open",
        "results",
        ["updated_at", "resource_id"],
        unique=False,
        postgresql_where=sa.text("NOT final"),
        sqlite_where=sa.text("NOT final"),
    )


def _expectations() -> None:
    op.create_table(
        "expectations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=128), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("deadline", UTC_TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("check_at", UTC_TIME, nullable=True, comment="when to look next; null once it is closed"),
        sa.Column("tried_at", UTC_TIME, nullable=True, comment="when a retrieve was asked for, after the deadline"),
        sa.Column("closed_at", UTC_TIME, nullable=True),
        sa.Column("resource_id", BIG_ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_expectations"),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_expectations_resource_id_resources"),
    )
    op.create_index(
        "ix_expectations_check_at",
        "expectations",
        ["check_at"],
        unique=False,
        postgresql_where=sa.text("check_at IS NOT NULL"),
        sqlite_where=sa.text("check_at IS NOT NULL"),
    )
    op.create_index("ix_expectations_deadline_id", "expectations", ["deadline", "id"], unique=False)
    op.create_index("ix_expectations_state_deadline_id", "expectations", ["state", "deadline", "id"], unique=False)
    for name in ("external_id", "reference"):
        op.create_index(
            f"uq_expectations_{name}",
            "expectations",
            ["source", "kind", name, "deadline"],
            unique=True,
            postgresql_where=sa.text(f"{name} IS NOT NULL AND state <> 'cancelled'"),
            sqlite_where=sa.text(f"{name} IS NOT NULL AND state <> 'cancelled'"),
        )
