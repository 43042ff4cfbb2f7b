"""Named leases: who does a thing that one process should do. Losing one costs a repeat, never harm."""

from datetime import datetime, timedelta

from sqlalchemy import delete, or_
from sqlalchemy.orm import Session

from worker.store.engine import insert
from worker.store.tables import leases

SWEEP = "sweep"
SWEEP_LASTING = timedelta(seconds=5)
"""A dead leader is missed for this long; the nudges of the receivers go on meanwhile."""


def acquire(session: Session, name: str, holder: str, *, now: datetime, lasting: timedelta) -> bool:
    """Take or renew the lease; false while somebody else holds it."""
    statement = insert(session, leases).values(name=name, holder=holder, expires_at=now + lasting)
    taken = session.execute(
        statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": holder, "expires_at": now + lasting},
            where=or_(leases.c.holder == holder, leases.c.expires_at <= now),
        ).returning(leases.c.name)
    )
    return taken.first() is not None


def release(session: Session, name: str, holder: str) -> None:
    """Give the lease back, so that the next one need not wait for it to run out."""
    session.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
