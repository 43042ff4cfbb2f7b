-- What were the verdicts of everything in a source just before a moment, as far as they were known here?
--
-- Parameters: `source`; `at`, a time in UTC such as '2026-01-31 00:00:00+00:00'.
-- Cost: every version of every resource of the source. That is a report for the night, not for a page.
SELECT kind, external_id, version, stage, outcome, retrieved_at
FROM (
    SELECT kind, external_id, version, stage, outcome, retrieved_at,
           ROW_NUMBER() OVER (PARTITION BY kind, external_id ORDER BY version DESC) AS newest
    FROM v1_history
    WHERE source = :source AND retrieved_at < :at
) known
WHERE newest = 1
ORDER BY kind, external_id;
