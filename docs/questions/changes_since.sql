-- What happened since I looked last, and how does it stand now?
--
-- Parameters: `after`, the greatest `sequence` that you have seen; 0 at first.
-- Ask again with the last row's `sequence` until no row comes. `outcome` is the event's, `outcome_now` is today's.
-- Cost: the rows that it returns, by an index.
SELECT e.sequence, e.type, e.source, e.kind, e.external_id, e.version, e.stage, e.outcome, e.occurred_at,
       (SELECT r.outcome FROM v1_results r
        WHERE r.source = e.source AND r.kind = e.kind AND r.external_id = e.external_id) AS outcome_now
FROM v1_events e
WHERE e.sequence > :after
ORDER BY e.sequence
LIMIT 500;
