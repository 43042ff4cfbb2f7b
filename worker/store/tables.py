"""The tables. Consumers read the `v1_*` views instead (`worker.store.views`); migrations must match this module.

Everything that is claimed or counted often is narrow; bodies and documents lie in tables of their own.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.types import BigInteger

from worker.store.types import PackedBytes, SafeJson, SafeText, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only in a column that is exactly INTEGER PRIMARY KEY."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source", String(63), nullable=False),
    Column("delivery_key", SafeText, nullable=False),
    Column("event_id", SafeText),
    Column("event_type", SafeText),
    Column("state", String(16), nullable=False),
    Column("reason", SafeText),
    Column("body_sha256", String(64), nullable=False),
    Column("occurred_at", UtcDateTime),
    Column("received_at", UtcDateTime, nullable=False),
    Column("repeats", Integer, nullable=False, server_default=text("0")),
    Column("last_repeat_at", UtcDateTime),
    UniqueConstraint("source", "delivery_key"),
    Index("ix_deliveries_received_at", "received_at"),
    Index("ix_deliveries_unreadable", "received_at", postgresql_where=text("state = 'unreadable'"),
          sqlite_where=text("state = 'unreadable'")),
)  # fmt: skip

delivery_bodies = Table(
    "delivery_bodies",
    metadata,
    Column("delivery_id", ForeignKey(deliveries.c.id, ondelete="CASCADE"), primary_key=True),
    Column("body", PackedBytes),
    Column("headers", SafeJson, nullable=False),
    Column("erased_at", UtcDateTime),
)

quarantined_deliveries = Table(
    "quarantined_deliveries",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("source", String(63), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("reason", SafeText, nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("body_start", LargeBinary, nullable=False),
    Column("header_names", SafeJson, nullable=False),
    Index("ix_quarantined_deliveries_source_id", "source", "id"),
)

resources = Table(
    "resources",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("source", String(63), nullable=False),
    Column("provider", String(63), nullable=False),
    Column("environment", String(16), nullable=False),
    Column("kind", String(200), nullable=False),
    Column("external_id", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("cause", String(16), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("wanted", Integer, nullable=False, comment="how often somebody asked for a newer document"),
    Column("retrieved", Integer, nullable=False, server_default=text("0"),
           comment="what `wanted` was when the last successful retrieve was claimed"),
    Column("wanted_since", UtcDateTime, comment="when the work that is still open began; horizons count from here"),
    Column("due_at", UtcDateTime, comment="when to work on it next; past a lease while claimed; null: nothing to do"),
    Column("claim_token", Uuid),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    Column("version", Integer, nullable=False, server_default=text("0")),
    Column("read_started_at", UtcDateTime, comment="when the retrieve of the current version was started"),
    Column("provider_updated_at", UtcDateTime),
    Column("parks", Integer, nullable=False, server_default=text("0")),
    Column("parked_at", UtcDateTime),
    Column("park_reason", String(32)),
    Column("park_step", String(16), comment="where it stopped: call, read or write"),
    Column("park_fingerprint", String(16), comment="equal for failures that look alike; with the step it is a lane"),
    Column("last_error", SafeText),
    UniqueConstraint("source", "kind", "external_id"),
    CheckConstraint("retrieved <= wanted", name="retrieved_wanted"),
    Index("ix_resources_due", "source", "priority", "due_at", postgresql_where=text("due_at IS NOT NULL"),
          sqlite_where=text("due_at IS NOT NULL")),
    Index("ix_resources_oldest", "wanted_since", postgresql_where=text("wanted_since IS NOT NULL"),
          sqlite_where=text("wanted_since IS NOT NULL")),
    Index("ix_resources_parked", "parked_at", postgresql_where=text("parked_at IS NOT NULL"),
          sqlite_where=text("parked_at IS NOT NULL")),
)  # fmt: skip

delivery_resources = Table(
    "delivery_resources",
    metadata,
    Column("resource_id", ForeignKey(resources.c.id), primary_key=True),
    Column("delivery_id", ForeignKey(deliveries.c.id, ondelete="CASCADE"), primary_key=True),
    Index("ix_delivery_resources_delivery_id", "delivery_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("cause", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("outcome", String(16)),
    Column("error", String(32)),
    Column("detail", SafeText),
    Column("http_status", Integer),
    Column("request_id", SafeText),
    UniqueConstraint("resource_id", "number"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False),
    Column("number", Integer, nullable=False),
    Column(
        "document_sha256",
        String(64),
        nullable=False,
        comment="of the provider's exact bytes, also where redacted",
    ),
    Column("content_sha256", String(64), nullable=False, comment="of the document without its volatile parts"),
    Column("redacted", Boolean, nullable=False, comment="whether secrets in the kept bytes were replaced"),
    Column("api_version", String(32)),
    Column("read_started_at", UtcDateTime, nullable=False),
    Column("retrieved_at", UtcDateTime, nullable=False),
    Column("cause", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("final", Boolean, nullable=False),
    Column("provider_status", SafeText),
    Column("mapping_version", Integer, nullable=False),
    UniqueConstraint("resource_id", "number"),
)

version_bodies = Table(
    "version_bodies",
    metadata,
    Column("version_id", ForeignKey(versions.c.id), primary_key=True),
    Column("body", LargeBinary, comment="zlib-compressed; null once erased"),
    Column("erased_at", UtcDateTime),
)

results = Table(
    "results",
    metadata,
    Column("resource_id", ForeignKey(resources.c.id), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("mapping_version", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("final", Boolean, nullable=False),
    Column("derived", Boolean, nullable=False),
    Column("provider_status", SafeText),
    Column("score", Float),
    Column("reference", SafeText),
    Column("provider_created_at", UtcDateTime),
    Column("provider_updated_at", UtcDateTime),
    Column("completed_at", UtcDateTime),
    Column("retrieved_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_results_updated_at_resource_id", "updated_at", "resource_id"),
    Index("ix_results_reference", "reference"),
    Index("ix_results_open", "updated_at", "resource_id", postgresql_where=text("NOT final"),
          sqlite_where=text("NOT final")),
)  # fmt: skip

result_documents = Table(
    "result_documents",
    metadata,
    Column("resource_id", ForeignKey(results.c.resource_id), primary_key=True),
    Column("document", SafeJson, nullable=False),
)

checks = Table(
    "checks",
    metadata,
    Column("version_id", ForeignKey(versions.c.id), primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("name", SafeText, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("provider_outcome", SafeText),
    Column("score", Float),
    Column("threshold", Float),
    Column("required", Boolean),
    Column("reasons", SafeJson, nullable=False),
    Column("details", SafeJson, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("position", BigId, Identity(), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("sequence", BigInteger, unique=True, comment="given in order of commit; null until then"),
    Column("type", String(64), nullable=False),
    Column("source", String(63), nullable=False),
    Column("kind", String(200)),
    Column("external_id", String(128)),
    Column("version", Integer),
    Column("stage", String(16)),
    Column("outcome", String(16)),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("data", SafeJson, nullable=False),
    Index("ix_events_unnumbered", "position", postgresql_where=text("sequence IS NULL"),
          sqlite_where=text("sequence IS NULL")),
    Index("ix_events_source_kind_external_id", "source", "kind", "external_id"),
)  # fmt: skip

event_deliveries = Table(
    "event_deliveries",
    metadata,
    Column("sink", String(63), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("last_error", SafeText),
)

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", SafeText, nullable=False),
    Column("reason", SafeText),
    Column("details", SafeJson, nullable=False),
)

source_states = Table(
    "source_states",
    metadata,
    Column("source", String(63), primary_key=True),
    Column("held_at", UtcDateTime),
    Column("hold_reason", SafeText),
    Column("probe_at", UtcDateTime, comment="when a held source is tried with one call; null: an operator's hold"),
    Column("holds", Integer, nullable=False, server_default=text("0")),
    Column("throttled_until", UtcDateTime),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

drift_issues = Table(
    "drift_issues",
    metadata,
    Column("source", String(63), primary_key=True),
    Column("kind", String(200), primary_key=True),
    Column("field", SafeText, primary_key=True),
    Column("value", SafeText, primary_key=True),
    Column("seen", Integer, nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
)

replays = Table(
    "replays",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("level", String(16), nullable=False),
    Column("selection", SafeJson, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("reason", SafeText),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("total", Integer, nullable=False),
    Column("outcomes", SafeJson, nullable=False, comment="how many items ended how, so that progress scans nothing"),
    Index("ix_replays_created_at", "created_at"),
    Index("ix_replays_open", "created_at", postgresql_where=text("finished_at IS NULL"),
          sqlite_where=text("finished_at IS NULL")),
)  # fmt: skip

replay_items = Table(
    "replay_items",
    metadata,
    Column("replay_id", ForeignKey(replays.c.id, ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("source", String(63), nullable=False),
    Column("resource_id", ForeignKey(resources.c.id)),
    Column("delivery_id", ForeignKey(deliveries.c.id, ondelete="CASCADE")),
    Column("state", String(16), nullable=False),
    Column("wanted", Integer, comment="what the resource's `wanted` became when this item asked for it"),
    Column("attempts", Integer, comment="how many attempts the resource had had by then"),
    Column("outcome", String(16)),
    Column("detail", SafeText),
    Column("finished_at", UtcDateTime),
    Index("ix_replay_items_replay_id_state_source_position", "replay_id", "state", "source", "position"),
    Index("ix_replay_items_delivery_id", "delivery_id"),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", BigId, Identity(), primary_key=True),
    Column("source", String(63), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("calls", Integer, nullable=False, server_default=text("0")),
    Column("listed", Integer, nullable=False, server_default=text("0"), comment="resources that the provider named"),
    Column("missing", Integer, nullable=False, server_default=text("0"), comment="of these, never told of here"),
    Column("outdated", Integer, nullable=False, server_default=text("0"), comment="newer there, and nothing was open"),
    Column("reread", Integer, nullable=False, server_default=text("0"), comment="read again because not final"),
    Column("announced", Integer, nullable=False, server_default=text("0"),
           comment="of the listed, those that webhooks tell of"),
    Column("lost", Integer, nullable=False, server_default=text("0"),
           comment="of the announced, those found missing or outdated"),
    Column("parked", Integer, nullable=False, server_default=text("0"), comment="of the listed, parked and left so"),
    Column("unreadable", Integer, nullable=False, server_default=text("0"), comment="entries that named nothing"),
    Column("error", SafeText),
    Index("ix_reconciliations_source_id", "source", "id"),
)  # fmt: skip

expectations = Table(
    "expectations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source", String(63), nullable=False),
    Column("kind", String(200), nullable=False),
    Column("external_id", String(128)),
    Column("reference", SafeText),
    Column("deadline", UtcDateTime, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("check_at", UtcDateTime, comment="when to look next; null once it is closed"),
    Column("tried_at", UtcDateTime, comment="when a retrieve was asked for, after the deadline"),
    Column("closed_at", UtcDateTime),
    Column("resource_id", ForeignKey(resources.c.id)),
    Index("ix_expectations_check_at", "check_at", postgresql_where=text("check_at IS NOT NULL"),
          sqlite_where=text("check_at IS NOT NULL")),
    Index("ix_expectations_deadline_id", "deadline", "id"),
    Index("ix_expectations_state_deadline_id", "state", "deadline", "id"),
    # The same is expected once; what was cancelled may be expected again.
    Index("uq_expectations_external_id", "source", "kind", "external_id", "deadline", unique=True,
          postgresql_where=text("external_id IS NOT NULL AND state <> 'cancelled'"),
          sqlite_where=text("external_id IS NOT NULL AND state <> 'cancelled'")),
    Index("uq_expectations_reference", "source", "kind", "reference", "deadline", unique=True,
          postgresql_where=text("reference IS NOT NULL AND state <> 'cancelled'"),
          sqlite_where=text("reference IS NOT NULL AND state <> 'cancelled'")),
)  # fmt: skip
