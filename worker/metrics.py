"""What this process counts, for `/metrics`. Labels are configured names and closed vocabularies, so they stay few."""

from prometheus_client import Counter, Gauge, Histogram

Child = Counter
"""A counter among those that differ by labels only. To the library it is one as well."""

DELIVERIES = Counter(
    "verisink_deliveries", "Webhook requests of configured sources, by what was answered.", ["source", "status"]
)
ACK_SECONDS = Histogram(
    "verisink_ack_seconds",
    "From the whole body to the answer, for authenticated deliveries.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SHED = Counter("verisink_requests_shed", "Webhook requests told to come again, because too many were waiting.")
ATTEMPTS = Counter(
    "verisink_attempts", "Retrieve calls that ended in this process, by how.", ["source", "outcome", "error"]
)
SPOOL_DELIVERIES = Gauge(
    "verisink_spool_deliveries", "Acknowledged webhooks in this host's spool, which the database does not have yet."
)
SPOOL_BYTES = Gauge("verisink_spool_bytes", "What they count for against SPOOL_MAX_BYTES.")
EXPECTATIONS = Counter(
    "verisink_expectations", "Expected results that this process found met, overdue or met late.", ["source", "state"]
)
PRUNED_ROWS = Counter(
    "verisink_pruned_rows", "Rows that this process deleted because they were kept for long enough.", ["table"]
)
RECONCILE_LOSS = Gauge(
    "verisink_reconcile_loss_ratio",
    "Of what the provider listed and webhooks tell of, the share that only the last reconciliation found.",
    ["source"],
)
