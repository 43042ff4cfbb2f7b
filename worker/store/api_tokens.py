"""Tokens of the API as they are stored: digests with names and scopes. Times are the database's."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import func, or_, select, update

from worker.store.engine import Session, insert
from worker.store.query import Record, records
from worker.store.token_table import api_tokens


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be stored. `scopes` are parted by spaces."""

    name: str
    sha256: str
    scopes: str
    created_by: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that is good now."""

    id: UUID
    name: str
    sha256: str
    scopes: str
    expires_at: datetime | None


def add(session: Session, token: NewToken, now: datetime) -> bool:
    """Store a token; false if there is one of its name that was not revoked."""
    made = insert(session, api_tokens).values(
        id=uuid_utils.compat.uuid7(),
        name=token.name,
        sha256=token.sha256,
        scopes=token.scopes,
        created_at=now,
        created_by=token.created_by,
        expires_at=token.expires_at,
    )
    unless_taken = made.on_conflict_do_nothing(
        index_elements=[api_tokens.c.name], index_where=api_tokens.c.revoked_at.is_(None)
    )
    return session.execute(unless_taken.returning(api_tokens.c.id)).first() is not None


def count(session: Session) -> int:
    """How many tokens were not revoked."""
    return session.execute(select(func.count()).where(api_tokens.c.revoked_at.is_(None))).scalar_one()


def live(session: Session, now: datetime, *, limit: int) -> tuple[LiveToken, ...]:
    """Every token that is good."""
    columns = (api_tokens.c[name] for name in LiveToken.__slots__)
    query = select(*columns).where(
        api_tokens.c.revoked_at.is_(None),
        or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > now),
    )
    return tuple(LiveToken(*row) for row in session.execute(query.order_by(api_tokens.c.id).limit(limit)))


def revoke(session: Session, name: str, now: datetime) -> bool:
    """Make a token good for nothing; false if there is none of this name that is not revoked already."""
    ended = update(api_tokens).where(api_tokens.c.name == name, api_tokens.c.revoked_at.is_(None))
    return session.execute(ended.values(revoked_at=now).returning(api_tokens.c.id)).first() is not None


def note_use(session: Session, token_id: UUID, now: datetime, *, unless_within: timedelta) -> None:
    """Note that a token was used, unless that was noted so short a time ago."""
    used = api_tokens.c.last_used_at
    session.execute(
        update(api_tokens)
        .where(api_tokens.c.id == token_id, or_(used.is_(None), used <= now - unless_within))
        .values(last_used_at=now)
    )


def token_records(session: Session) -> list[Record]:
    """Every token, revoked ones too, in the order in which they were made."""
    shown = [column for column in api_tokens.c if column.name not in ("id", "sha256")]
    return records(session, select(*shown).order_by(api_tokens.c.created_at, api_tokens.c.id))
