-- Which checks fail most, in results that changed in a period?
--
-- Parameters: `since` and `until`, times in UTC such as '2026-01-31 00:00:00+00:00'; `until` itself is not part of it.
-- Each result counts once with its checks of today, however often it was read.
-- Cost: the results that changed since `since`, by an index, and their checks.
SELECT r.provider, c.name, COUNT(DISTINCT r.source || '/' || r.kind || '/' || r.external_id) AS results
FROM v1_results r
JOIN v1_checks c
  ON c.source = r.source AND c.kind = r.kind AND c.external_id = r.external_id AND c.version = r.version
WHERE r.updated_at >= :since AND r.updated_at < :until AND c.outcome = 'failed'
GROUP BY r.provider, c.name
ORDER BY results DESC, r.provider, c.name;
