"""The first schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)
JSON_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    _receiving()
    _retrieving()
    _results()
    _telling()
    _operating()
    _views()


def downgrade() -> None:
    """Going back would lose what was stored since; restore a backup instead."""
    raise NotImplementedError("migrations only go forward: restore a backup to go back")


def _receiving() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("delivery_key", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("occurred_at", UTC_TIME, nullable=True),
        sa.Column("received_at", UTC_TIME, nullable=False),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_repeat_at", UTC_TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("source", "delivery_key", name="uq_deliveries_source_delivery_key"),
    )
    op.create_index("ix_deliveries_received_at", "deliveries", ["received_at"], unique=False)
    op.create_index(
        "ix_deliveries_unreadable",
        "deliveries",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("state = 'unreadable'"),
        sqlite_where=sa.text("state = 'unreadable'"),
    )
    op.create_table(
        "delivery_bodies",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("headers", JSON_DOCUMENT, nullable=False),
        sa.Column("erased_at", UTC_TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name="fk_delivery_bodies_delivery_id_deliveries",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_delivery_bodies"),
    )
    op.create_table(
        "quarantined_deliveries",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("received_at", UTC_TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("body_start", sa.LargeBinary(), nullable=False),
        sa.Column("header_names", JSON_DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantined_deliveries"),
    )
    op.create_index("ix_quarantined_deliveries_source_id", "quarantined_deliveries", ["source", "id"], unique=False)


def _retrieving() -> None:
    op.create_table(
        "resources",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("environment", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False, comment="how often somebody asked for a newer document"),
        sa.Column(
            "retrieved",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="what `wanted` was when the last successful retrieve was claimed",
        ),
        sa.Column(
            "wanted_since",
            UTC_TIME,
            nullable=True,
            comment="when the work that is still open began; horizons count from here",
        ),
        sa.Column(
            "due_at",
            UTC_TIME,
            nullable=True,
            comment="when to work on it next; past a lease while claimed; null: nothing to do",
        ),
        sa.Column("claim_token", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "read_started_at",
            UTC_TIME,
            nullable=True,
            comment="when the retrieve of the current version was started",
        ),
        sa.Column("provider_updated_at", UTC_TIME, nullable=True),
        sa.Column("parks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("parked_at", UTC_TIME, nullable=True),
        sa.Column("park_reason", sa.String(length=32), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("retrieved <= wanted", name="ck_resources_retrieved_wanted"),
        sa.PrimaryKeyConstraint("id", name="pk_resources"),
        sa.UniqueConstraint("source", "kind", "external_id", name="uq_resources_source_kind_external_id"),
    )
    op.create_index(
        "ix_resources_due",
        "resources",
        ["source", "priority", "due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_resources_oldest",
        "resources",
        ["wanted_since"],
        unique=False,
        postgresql_where=sa.text("wanted_since IS NOT NULL"),
        sqlite_where=sa.text("wanted_since IS NOT NULL"),
    )
    op.create_index(
        "ix_resources_parked",
        "resources",
        ["parked_at"],
        unique=False,
        postgresql_where=sa.text("parked_at IS NOT NULL"),
        sqlite_where=sa.text("parked_at IS NOT NULL"),
    )
    op.create_table(
        "delivery_resources",
        sa.Column("resource_id", BIG_ID, nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name="fk_delivery_resources_delivery_id_deliveries",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_delivery_resources_resource_id_resources"),
        sa.PrimaryKeyConstraint("resource_id", "delivery_id", name="pk_delivery_resources"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("resource_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("error", sa.String(length=32), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_attempts_resource_id_resources"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("resource_id", "number", name="uq_attempts_resource_id_number"),
    )
    op.create_table(
        "source_states",
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("held_at", UTC_TIME, nullable=True),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column(
            "probe_at",
            UTC_TIME,
            nullable=True,
            comment="when a held source is tried with one call; null: an operator's hold",
        ),
        sa.Column("holds", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("throttled_until", UTC_TIME, nullable=True),
        sa.PrimaryKeyConstraint("source", name="pk_source_states"),
    )
    op.create_table(
        "drift_issues",
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "field", "value", name="pk_drift_issues"),
    )


def _results() -> None:
    op.create_table(
        "versions",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("resource_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "document_sha256",
            sa.String(length=64),
            nullable=False,
            comment="of the provider's exact bytes, also where redacted",
        ),
        sa.Column(
            "content_sha256",
            sa.String(length=64),
            nullable=False,
            comment="of the document without its volatile parts",
        ),
        sa.Column(
            "redacted",
            sa.Boolean(),
            nullable=False,
            comment="whether secrets in the kept bytes were replaced",
        ),
        sa.Column("api_version", sa.String(length=32), nullable=True),
        sa.Column("read_started_at", UTC_TIME, nullable=False),
        sa.Column("retrieved_at", UTC_TIME, nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("provider_status", sa.Text(), nullable=True),
        sa.Column("mapping_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_versions_resource_id_resources"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("resource_id", "number", name="uq_versions_resource_id_number"),
    )
    op.create_table(
        "version_bodies",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True, comment="zlib-compressed; null once erased"),
        sa.Column("erased_at", UTC_TIME, nullable=True),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_bodies_version_id_versions"),
        sa.PrimaryKeyConstraint("version_id", name="pk_version_bodies"),
    )
    op.create_table(
        "results",
        sa.Column("resource_id", BIG_ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("mapping_version", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("derived", sa.Boolean(), nullable=False),
        sa.Column("provider_status", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("provider_created_at", UTC_TIME, nullable=True),
        sa.Column("provider_updated_at", UTC_TIME, nullable=True),
        sa.Column("completed_at", UTC_TIME, nullable=True),
        sa.Column("retrieved_at", UTC_TIME, nullable=False),
        sa.Column("updated_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name="fk_results_resource_id_resources"),
        sa.PrimaryKeyConstraint("resource_id", name="pk_results"),
    )
    op.create_index("ix_results_reference", "results", ["reference"], unique=False)
    op.create_index("ix_results_updated_at_resource_id", "results", ["updated_at", "resource_id"], unique=False)
    op.create_table(
        "result_documents",
        sa.Column("resource_id", BIG_ID, nullable=False),
        sa.Column("document", JSON_DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["results.resource_id"], name="fk_result_documents_resource_id_results"
        ),
        sa.PrimaryKeyConstraint("resource_id", name="pk_result_documents"),
    )
    op.create_table(
        "checks",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("provider_outcome", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("required", sa.Boolean(), nullable=True),
        sa.Column("reasons", JSON_DOCUMENT, nullable=False),
        sa.Column("details", JSON_DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_checks_version_id_versions"),
        sa.PrimaryKeyConstraint("version_id", "position", name="pk_checks"),
    )


def _telling() -> None:
    op.create_table(
        "events",
        sa.Column("position", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True, comment="given in order of commit; null until then"),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=True),
        sa.Column("external_id", sa.String(length=128), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("occurred_at", UTC_TIME, nullable=False),
        sa.Column("data", JSON_DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sa.UniqueConstraint("sequence", name="uq_events_sequence"),
    )
    op.create_index("ix_events_source_kind_external_id", "events", ["source", "kind", "external_id"], unique=False)
    op.create_index(
        "ix_events_unnumbered",
        "events",
        ["position"],
        unique=False,
        postgresql_where=sa.text("sequence IS NULL"),
        sqlite_where=sa.text("sequence IS NULL"),
    )
    op.create_table(
        "event_deliveries",
        sa.Column("sink", sa.String(length=63), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_at", UTC_TIME, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sink", "sequence", name="pk_event_deliveries"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cursors"),
    )
    op.execute("INSERT INTO cursors (name, value) VALUES ('events', 0)")


def _operating() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", BIG_ID, sa.Identity(always=False), nullable=False),
        sa.Column("occurred_at", UTC_TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("details", JSON_DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("expires_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _views() -> None:
    op.execute(
        """
        CREATE VIEW v1_results AS
        SELECT r.source, r.provider, r.environment, r.kind, r.external_id, s.reference, s.stage, s.outcome, s.final,
               s.provider_status, s.score, s.version, s.mapping_version, s.provider_created_at, s.provider_updated_at,
               s.completed_at, r.created_at AS first_seen_at, s.retrieved_at, d.document, s.derived, s.updated_at
        FROM results s
        JOIN resources r ON r.id = s.resource_id
        JOIN result_documents d ON d.resource_id = s.resource_id
        """
    )
    op.execute(
        """
        CREATE VIEW v1_checks AS
        SELECT r.source, r.kind, r.external_id, v.number AS version, c.name, c.outcome, c.provider_outcome, c.score,
               c.threshold, c.required, c.reasons, c.position, c.details
        FROM checks c
        JOIN versions v ON v.id = c.version_id
        JOIN resources r ON r.id = v.resource_id
        """
    )
    op.execute(
        """
        CREATE VIEW v1_history AS
        SELECT r.source, r.kind, r.external_id, v.number AS version, v.stage, v.outcome, v.provider_status,
               v.retrieved_at, v.cause, v.document_sha256, v.final, v.mapping_version, v.api_version
        FROM versions v
        JOIN resources r ON r.id = v.resource_id
        """
    )
    op.execute(
        """
        CREATE VIEW v1_events AS
        SELECT e.sequence, e.id, e.type, e.source, e.kind, e.external_id, e.version, e.stage, e.outcome, e.occurred_at,
               e.data
        FROM events e
        WHERE e.sequence IS NOT NULL
        """
    )
