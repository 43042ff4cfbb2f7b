-- Which share is approved, by provider and week?
--
-- Parameters: `since`, a time in UTC such as '2026-01-31 00:00:00+00:00'; `zone`, in which days begin: 'Europe/Berlin'.
-- Weeks begin on Monday. A result counts in the week in which the provider completed it, or, where it does not say
-- when, in which it last changed here. Of those that are approved or rejected now; the others have no share.
-- Cost: the results that changed since `since`, by an index; an hour is left for clocks that differ.
SELECT provider, kind, CAST(DATE_TRUNC('week', decided_at AT TIME ZONE :zone) AS date) AS week,
       COUNT(*) AS decided, AVG(CASE WHEN outcome = 'approved' THEN 1.0 ELSE 0.0 END) AS approved_share
FROM (
    SELECT provider, kind, outcome, COALESCE(completed_at, updated_at) AS decided_at
    FROM v1_results
    WHERE updated_at >= CAST(:since AS timestamptz) - INTERVAL '1 hour'
      AND stage = 'decided' AND outcome IN ('approved', 'rejected')
) decisions
WHERE decided_at >= :since
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
