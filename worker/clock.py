"""The only reader of this host's clock.

Leases and due times never come from here but from the database's clock, so that hosts whose clocks differ agree.
What remains for this module: signature ages, log lines and durations.
"""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time of this host, aware, in UTC."""
    return datetime.now(UTC)


def unix_seconds() -> int:
    """The current time of this host in whole seconds since 1970-01-01 UTC."""
    return int(time.time())


def unix_nanoseconds() -> int:
    """The current time of this host in nanoseconds since 1970-01-01 UTC."""
    return time.time_ns()


monotonic = time.monotonic
"""Seconds on a clock that never goes back; only differences mean anything. It is asked too often for a way around."""
