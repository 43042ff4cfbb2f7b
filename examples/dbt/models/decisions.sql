-- One row for each result that is decided now, with how long that took.
SELECT
    source, provider, environment, kind, external_id, outcome, version, updated_at,
    EXTRACT(EPOCH FROM completed_at - provider_created_at) AS seconds_to_decision
FROM {{ source("verisink", "v1_results") }}
WHERE stage = 'decided'
