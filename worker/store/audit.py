"""Who did what, when and why: written in the same transaction as the deed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from worker.domain.strict_json import Json
from worker.store.engine import insert
from worker.store.tables import audit_entries


@dataclass(frozen=True, slots=True)
class Deed:
    """`actor` is a person's or a process's name, `subject` what it was done to, `reason` the actor's own words for
    why."""

    actor: str
    action: str
    subject: str
    reason: str | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


def note(session: Session, deed: Deed, now: datetime) -> None:
    """Write an entry."""
    session.execute(
        insert(session, audit_entries).values(
            occurred_at=now,
            actor=deed.actor,
            action=deed.action,
            subject=deed.subject,
            reason=deed.reason,
            details=dict(deed.details),
        )
    )
