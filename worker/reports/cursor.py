"""Cursors of lists: opaque to those who page, and refused unless they are exactly what was given out."""

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta

from worker.store.query_results import Position

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(rb"1\.([0-9]{1,17})\.([0-9]{1,18})")
"""A format number, microseconds since 1970 and a row id; so many digits fit into every database."""


class BadCursor(ValueError):
    """The cursor is not one that was given out."""


def encode(position: Position) -> str:
    """The cursor that names a place in a list; it may stand in a URL as it is."""
    microseconds = (position.updated_at - _EPOCH) // _MICROSECOND
    text = f"1.{microseconds}.{position.resource_id}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def decode(cursor: str) -> Position:
    """The place that a cursor names. Raises BadCursor."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = _TEXT.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True))
        if found is None:
            raise BadCursor("not a cursor of this list")
        return Position(_EPOCH + int(found[1]) * _MICROSECOND, int(found[2]))
    except (UnicodeEncodeError, binascii.Error, OverflowError):
        raise BadCursor("not a cursor of this list") from None
