-- Whose decision was turned round in a period: approved, then rejected, or the other way?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; `until` itself is not part of it.
-- More than the events `verification.result.reversed`, which compare neighbours only: here a decision is compared with
-- the decision before it, whatever lay between.
-- Personal: reference. Cost: the results that changed since `since`, by an index, and all events of each.
WITH changed AS MATERIALIZED (
    SELECT source, kind, external_id, reference FROM v1_results WHERE updated_at >= :since
),
decisions AS (
    SELECT e.source, e.kind, e.external_id, changed.reference, e.sequence, e.occurred_at, e.outcome,
           LAG(e.outcome) OVER (PARTITION BY e.source, e.kind, e.external_id ORDER BY e.sequence) AS outcome_before
    FROM changed
    JOIN v1_events e ON e.source = changed.source AND e.kind = changed.kind AND e.external_id = changed.external_id
    WHERE e.stage = 'decided' AND e.outcome IN ('approved', 'rejected')
)
SELECT source, kind, external_id, reference, occurred_at AS reversed_at, outcome_before, outcome
FROM decisions
WHERE outcome <> outcome_before AND occurred_at >= :since AND occurred_at < :until
ORDER BY sequence;
