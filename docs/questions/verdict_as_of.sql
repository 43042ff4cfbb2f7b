-- What was the verdict of one verification just before a moment, as far as it was known here?
--
-- Parameters: `source`, `kind`, `external_id`; `at`, a time in UTC such as '2026-01-31 00:00:00+00:00'.
-- No row: nothing was known yet. A version keeps the reading of its day; the newest is as it is read today.
-- Personal: provider_status. Cost: the versions of one resource, by an index.
SELECT version, stage, outcome, final, provider_status, retrieved_at
FROM v1_history
WHERE source = :source AND kind = :kind AND external_id = :external_id AND retrieved_at < :at
ORDER BY version DESC
LIMIT 1;
