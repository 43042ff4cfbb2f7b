-- How long does it take until a decision, by provider?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; completed from `since`, before `until`.
-- Seconds from when it began to when it was completed, both by the provider's clock, to the millisecond; results for
-- which the provider does not say both are left out. Kinds are kept apart, because a case takes longer than the
-- photograph in it.
-- Cost: the results that changed since `since`, by an index. A result comes here after it was completed there; an hour
-- is left for clocks that differ.
SELECT provider, kind, COUNT(*) AS decided,
       -- The middle one, or what lies between the two in the middle.
       AVG(CASE WHEN place IN ((among + 1) / 2, (among + 2) / 2) THEN seconds END) AS median_seconds
FROM (
    SELECT provider, kind, seconds,
           ROW_NUMBER() OVER (PARTITION BY provider, kind ORDER BY seconds) AS place,
           COUNT(*) OVER (PARTITION BY provider, kind) AS among
    FROM (
        SELECT provider, kind,
               ROUND((JULIANDAY(completed_at) - JULIANDAY(provider_created_at)) * 86400, 3) AS seconds
        FROM v1_results
        WHERE updated_at >= DATETIME(:since, '-1 hour')
          AND stage = 'decided' AND completed_at >= :since AND completed_at < :until AND provider_created_at IS NOT NULL
    ) timed
) ranked
GROUP BY provider, kind
ORDER BY provider, kind;
