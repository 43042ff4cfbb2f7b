"""What answers say about time in their headers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def seconds(value: str | None) -> timedelta | None:
    """A header's non-negative whole number of seconds, or None."""
    if value is None or not value.strip().isascii() or not value.strip().isdigit():
        return None
    return timedelta(seconds=min(int(value.strip()[:9]), 86_400 * 7))


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """`Retry-After` in seconds or as a date, which is seen from the answer's own; None without one that can be read.
    The names of the headers are lower case."""
    value = headers.get("retry-after")
    found = seconds(value)
    if not value or found is not None:
        return found
    try:
        when = parsedate_to_datetime(value)
        sent = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return max(_aware(when) - _aware(sent), timedelta(0))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
