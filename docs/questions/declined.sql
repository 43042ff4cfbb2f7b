-- Who was declined in a period and still is, and why?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; `until` itself is not part of it.
-- One row for each failed check; a result without one has a single row with nulls. A result counts by when Verisink
-- learned that it is rejected, also if it was approved before.
-- Personal: reference, reasons. Cost: the results that changed since `since`, by an index, and their checks and events.
SELECT r.source, r.kind, r.external_id, r.reference, declined.at AS declined_at,
       c.name AS failed_check, c.reasons
FROM v1_results r
JOIN (
    -- The last time that the verdict came to be what it is: events that repeat it do not count.
    SELECT source, kind, external_id, MAX(occurred_at) AS at
    FROM (
        SELECT e.source, e.kind, e.external_id, e.occurred_at, e.outcome,
               LAG(e.outcome) OVER (PARTITION BY e.source, e.kind, e.external_id ORDER BY e.sequence) AS outcome_before
        FROM v1_results changed
        JOIN v1_events e
          ON e.source = changed.source AND e.kind = changed.kind AND e.external_id = changed.external_id
        WHERE changed.updated_at >= :since AND changed.outcome = 'rejected' AND e.outcome IS NOT NULL
    ) verdicts
    WHERE outcome = 'rejected' AND (outcome_before IS NULL OR outcome_before <> 'rejected')
    GROUP BY source, kind, external_id
) declined ON declined.source = r.source AND declined.kind = r.kind AND declined.external_id = r.external_id
LEFT JOIN v1_checks c
  ON c.source = r.source AND c.kind = r.kind AND c.external_id = r.external_id AND c.version = r.version
 AND c.outcome = 'failed'
WHERE r.updated_at >= :since AND r.outcome = 'rejected' AND declined.at >= :since AND declined.at < :until
ORDER BY declined.at, r.source, r.kind, r.external_id, c.position;
