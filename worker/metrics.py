"""What the processes of this host count, for `/metrics`. Labels are configured names and closed vocabularies, so they
stay few. What is read from the database for a scrape is in `worker.exposition`.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, values

from worker import settings
from worker.clock import utc_now

# When a series began says nothing that Prometheus uses, and would be half of all lines.
disable_created_metrics()  # type: ignore[no-untyped-call]

if values.ValueClass is not values.MutexValue and (_name := settings.counting_place().name) is not None:
    # The library was told by its environment to share. Below our supervisor a child counts under its name and not under
    # its process id, so that its successor goes on where it ended: no count is lost or doubled, and the folder does not
    # grow. The library takes what is set here before the first metric is made.
    values.ValueClass = values.MultiProcessValue(lambda: _name)  # type: ignore[no-untyped-call]

Child = Counter
"""A counter among those that differ by labels only. To the library it is one as well."""

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)
"""For calls, whose deadline is 20 seconds by default."""

AGES = (0.5, 1, 2, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
"""For freshness. Seconds are what is usual, minutes what somebody should look at, and a day what an outage leaves."""

UNCONFIGURED = "(not configured)"
"""For all sources that are not configured here together. No source can be called that."""

ANSWERED = "answered"
"""The outcome of a call that gave a document; the others are the kinds of failures."""

DELIVERIES = Counter(
    "verisink_deliveries", "Webhook requests of configured sources, by what was answered.", ["source", "status"]
)
ACK_SECONDS = Histogram(
    "verisink_ack_seconds",
    "From the whole body to the answer, for authenticated deliveries.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
SHED = Counter("verisink_requests_shed", "Webhook requests told to come again, because too many were waiting.")
TOLD_SECONDS = Histogram(
    "verisink_freshness_told_seconds",
    "From the time that the provider's webhook gives for what happened to its acknowledgement, by this host's clock.",
    ["source"],
    buckets=AGES,
)
CLOCK_AHEAD = Counter(
    "verisink_provider_clock_ahead",
    "Webhooks whose provider's time lay in this host's future; their freshness counts as 0 seconds.",
    ["source"],
)
STORED_SECONDS = Histogram(
    "verisink_freshness_stored_seconds",
    "From the acknowledgement of the first webhook that asked for it to the row of a new version.",
    ["source"],
    buckets=AGES,
)
DELIVERED_SECONDS = Histogram(
    "verisink_freshness_delivered_seconds",
    "From the row that an event tells of to its delivery, by the clocks of the database and of this host.",
    ["sink"],
    buckets=AGES,
)
ATTEMPTS = Counter(
    "verisink_attempts", "Retrieve calls that ended in this process, by how.", ["source", "outcome", "error"]
)
RETRIEVE_SECONDS = Histogram(
    "verisink_retrieve_seconds",
    "Retrieve calls, from the request to the whole answer; `answered`, or by what they failed.",
    ["source", "outcome"],
    buckets=SECONDS,
)
SPOOL_DELIVERIES = Gauge(
    "verisink_spool_deliveries",
    "Acknowledged webhooks in this host's spool, which the database does not have yet.",
    multiprocess_mode="livemax",
)
SPOOL_BYTES = Gauge("verisink_spool_bytes", "What they count for against SPOOL_MAX_BYTES.", multiprocess_mode="livemax")
EXPECTATIONS = Counter(
    "verisink_expectations", "Expected results that this process found met, overdue or met late.", ["source", "state"]
)
PRUNED_ROWS = Counter(
    "verisink_pruned_rows", "Rows that this process deleted because they were kept for long enough.", ["table"]
)
WATCHDOG_ACTS = Counter("verisink_watchdog_acts", "How often the watchdog ended a worker that was of no use.")
PROCESS_STARTS = Counter("verisink_process_starts", "Starts of supervised processes: `web` and `worker`.", ["role"])


@lru_cache(maxsize=4096)
def counter(metric: Counter, *labels: str) -> Counter:
    """The counter with these labels. Asking the library for it takes longer than counting."""
    return metric.labels(*labels)


@lru_cache(maxsize=4096)
def histogram(metric: Histogram, *labels: str) -> Histogram:
    """The histogram with these labels."""
    return metric.labels(*labels)


def note_told(source: str, occurred_at: datetime) -> None:
    """A webhook about what happened at `occurred_at`, by the provider's clock, is acknowledged."""
    seconds = (utc_now() - occurred_at).total_seconds()
    if seconds < 0:
        counter(CLOCK_AHEAD, source).inc()
    histogram(TOLD_SECONDS, source).observe(max(seconds, 0.0))


def note_delivered(sink: str, occurred: Iterable[datetime]) -> None:
    """A sink has got events of these times."""
    now, seconds = utc_now(), histogram(DELIVERED_SECONDS, sink)
    for occurred_at in occurred:
        # The database's clock may be ahead of this host's by a little.
        seconds.observe(max((now - occurred_at).total_seconds(), 0.0))
