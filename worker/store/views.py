"""The results database that consumers read. The views are the contract: columns are added, never changed or removed.

Times are UTC. The statements run unchanged on PostgreSQL and SQLite. Migrations hold copies, and a test compares them.
"""

from collections.abc import Mapping

VIEWS: Mapping[str, str] = {
    "v1_results": """
        SELECT r.source, r.provider, r.environment, r.kind, r.external_id, s.reference, s.stage, s.outcome, s.final,
               s.provider_status, s.score, s.version, s.mapping_version, s.provider_created_at, s.provider_updated_at,
               s.completed_at, r.created_at AS first_seen_at, s.retrieved_at, d.document, s.derived, s.updated_at
        FROM results s
        JOIN resources r ON r.id = s.resource_id
        JOIN result_documents d ON d.resource_id = s.resource_id
    """,
    "v1_checks": """
        SELECT r.source, r.kind, r.external_id, v.number AS version, c.name, c.outcome, c.provider_outcome, c.score,
               c.threshold, c.required, c.reasons, c.position, c.details
        FROM checks c
        JOIN versions v ON v.id = c.version_id
        JOIN resources r ON r.id = v.resource_id
    """,
    "v1_history": """
        SELECT r.source, r.kind, r.external_id, v.number AS version, v.stage, v.outcome, v.provider_status,
               v.retrieved_at, v.cause, v.document_sha256, v.final, v.mapping_version, v.api_version
        FROM versions v
        JOIN resources r ON r.id = v.resource_id
    """,
    "v1_events": """
        SELECT e.sequence, e.id, e.type, e.source, e.kind, e.external_id, e.version, e.stage, e.outcome, e.occurred_at,
               e.data
        FROM events e
        WHERE e.sequence IS NOT NULL
    """,
}
