-- How long does it take until a decision, by provider?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; completed from `since`, before `until`.
-- Seconds from when it began to when it was completed, both by the provider's clock; results for which the provider
-- does not say both are left out. Kinds are kept apart, because a case takes longer than the photograph in it.
-- Cost: the results that changed since `since`, by an index. A result comes here after it was completed there; an hour
-- is left for clocks that differ.
SELECT provider, kind, COUNT(*) AS decided,
       PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY EXTRACT(EPOCH FROM completed_at - provider_created_at))
           AS median_seconds
FROM v1_results
WHERE updated_at >= CAST(:since AS timestamptz) - INTERVAL '1 hour'
  AND stage = 'decided' AND completed_at >= :since AND completed_at < :until AND provider_created_at IS NOT NULL
GROUP BY provider, kind
ORDER BY provider, kind;
