"""The API's tokens as operators see them: never the token, nor its digest."""

from dataclasses import dataclass
from datetime import datetime

from worker.domain.scopes import TokenState
from worker.reports.build import each
from worker.store import api_tokens
from worker.store.engine import Session, database_time
from worker.store.query import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token. `last_used_at` is true to a minute or two."""

    name: str
    state: TokenState
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def tokens(session: Session) -> tuple[TokenRow, ...]:
    """Every token that was made, the revoked ones too, in the order in which they were made."""
    now = database_time(session)
    return each(TokenRow, ({**found, **_reading(found, now)} for found in api_tokens.token_records(session)))


def _reading(found: Record, now: datetime) -> Record:
    ends = found["expires_at"]
    if found["revoked_at"] is not None:
        state = TokenState.REVOKED
    elif isinstance(ends, datetime) and ends <= now:
        state = TokenState.EXPIRED
    else:
        state = TokenState.GOOD
    return {"state": state, "scopes": tuple(str(found["scopes"]).split())}
