-- Whose decision was turned round in a period: approved, then rejected, or the other way?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; `until` itself is not part of it.
-- More than the events `verification.result.reversed`, which compare neighbours only: here a decision is compared with
-- the decision before it, whatever lay between.
-- Personal: reference. Cost: the results that changed since `since`, by an index, and all events of each.
SELECT verdicts.source, verdicts.kind, verdicts.external_id, verdicts.reference, verdicts.occurred_at AS reversed_at,
       verdicts.outcome_before, verdicts.outcome
FROM (
    SELECT e.source, e.kind, e.external_id, r.reference, e.sequence, e.occurred_at, e.outcome,
           LAG(e.outcome) OVER (PARTITION BY e.source, e.kind, e.external_id ORDER BY e.sequence) AS outcome_before
    FROM v1_results r
    JOIN v1_events e ON e.source = r.source AND e.kind = r.kind AND e.external_id = r.external_id
    WHERE r.updated_at >= :since AND e.stage = 'decided' AND e.outcome IN ('approved', 'rejected')
) verdicts
WHERE verdicts.outcome <> verdicts.outcome_before
  AND verdicts.occurred_at >= :since AND verdicts.occurred_at < :until
ORDER BY verdicts.sequence;
