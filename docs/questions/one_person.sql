-- What do all providers say about one person?
--
-- Parameters: `reference`, your own id, as you gave it to the providers.
-- Personal: reference. Cost: the results with this reference, by an index.
SELECT provider, source, kind, external_id, stage, outcome, final, completed_at, updated_at
FROM v1_results
WHERE reference = :reference
ORDER BY provider, source, kind, external_id;
