"""Reading the providers' timestamps."""

from datetime import UTC, datetime

from worker.domain.strict_json import Json


def read_time(value: Json) -> datetime | None:
    """An aware UTC time from an ISO 8601 string or Unix seconds; None for anything else, including out-of-range
    years."""
    try:
        if isinstance(value, str) and 10 <= len(value) <= 40:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
