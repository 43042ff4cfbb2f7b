-- Who was declined in a period and still is, and why?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; `until` itself is not part of it.
-- One row for each failed check; a result without one has a single row with nulls. A result counts by when Verisink
-- learned that it is rejected, also if it was approved before.
-- Personal: reference, reasons. Cost: the results that changed since `since`, by an index, and their checks and events.
WITH changed AS MATERIALIZED (
    SELECT source, kind, external_id, reference, version
    FROM v1_results
    WHERE updated_at >= :since AND outcome = 'rejected'
),
verdicts AS (
    SELECT e.source, e.kind, e.external_id, changed.reference, changed.version, e.occurred_at, e.outcome,
           LAG(e.outcome) OVER (PARTITION BY e.source, e.kind, e.external_id ORDER BY e.sequence) AS outcome_before
    FROM changed
    JOIN v1_events e ON e.source = changed.source AND e.kind = changed.kind AND e.external_id = changed.external_id
    WHERE e.outcome IS NOT NULL
),
declined AS MATERIALIZED (
    -- The last time that the verdict came to be what it is: events that repeat it do not count.
    SELECT source, kind, external_id, reference, version, MAX(occurred_at) AS declined_at
    FROM verdicts
    WHERE outcome = 'rejected' AND (outcome_before IS NULL OR outcome_before <> 'rejected')
    GROUP BY source, kind, external_id, reference, version
    HAVING MAX(occurred_at) >= :since AND MAX(occurred_at) < :until
),
failed AS MATERIALIZED (
    SELECT c.source, c.kind, c.external_id, c.position, c.name, c.reasons
    FROM declined
    JOIN v1_checks c
      ON c.source = declined.source AND c.kind = declined.kind AND c.external_id = declined.external_id
     AND c.version = declined.version
    WHERE c.outcome = 'failed'
)
SELECT declined.source, declined.kind, declined.external_id, declined.reference, declined.declined_at,
       failed.name AS failed_check, failed.reasons
FROM declined
LEFT JOIN failed
  ON failed.source = declined.source AND failed.kind = declined.kind AND failed.external_id = declined.external_id
ORDER BY declined.declined_at, declined.source, declined.kind, declined.external_id, failed.position;
