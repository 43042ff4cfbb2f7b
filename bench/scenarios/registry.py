"""The scenarios, in the order in which they run."""

from collections.abc import Sequence

from bench.protocol import Scenario
from bench.scenarios import (
    ack,
    ack_idle,
    concurrency,
    cost,
    growth,
    latency,
    overload,
    results,
    scale,
    scale_hosts,
    small,
)

SCENARIOS: Sequence[Scenario] = (
    ack.SCENARIO,
    ack_idle.SCENARIO,
    overload.SCENARIO,
    results.SCENARIO,
    latency.SCENARIO,
    concurrency.SCENARIO,
    cost.SCENARIO,
    scale.SCENARIO,
    scale_hosts.SCENARIO,
    small.SCENARIO,
    growth.SCENARIO,
)
