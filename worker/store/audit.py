"""Who did what, when and why: written in the same transaction as the deed."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from worker.domain.strict_json import Json
from worker.store.engine import insert
from worker.store.tables import audit_entries


def note(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    *,
    now: datetime,
    details: Mapping[str, Json] | None = None,
) -> None:
    """Write an entry. `actor` is a person's or a process's name, `subject` what it was done to."""
    session.execute(
        insert(session, audit_entries).values(
            occurred_at=now, actor=actor, action=action, subject=subject, details=dict(details or {})
        )
    )
