-- Who is waiting for a decision for longest?
--
-- No parameters. Counted from when it began at the provider, or from when Verisink first heard of it.
-- Personal: reference, provider_status. Cost: everything that is still open, by an index; the longer your backlog, the more.
SELECT source, kind, external_id, reference, stage, provider_status,
       COALESCE(provider_created_at, first_seen_at) AS waiting_since
FROM v1_results
WHERE NOT final AND stage IN ('created', 'in_progress', 'in_review', 'unmapped')
ORDER BY waiting_since, source, kind, external_id
LIMIT 50;
