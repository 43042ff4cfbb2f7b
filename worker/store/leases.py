"""Named leases: who does a thing that one process should do. Losing one costs a repeat, never harm."""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import delete, or_
from sqlalchemy.orm import Session

from worker.store.engine import insert
from worker.store.tables import leases

LONGEST_NAME = 63
"""Characters of the column."""

SWEEP = "sweep"
SWEEP_LASTING = timedelta(seconds=5)
"""A dead leader is missed for this long; the nudges of the receivers go on meanwhile."""

RECONCILE_LASTING = timedelta(seconds=60)
"""Of a run that renews it every quarter of this. A call takes at most half a lease of work, which is less."""


def reconcile(source: str) -> str:
    """The name of the lease on reconciling a source. The longest slugs leave no room for a prefix, so they are cut to
    a digest."""
    name = f"reconcile:{source}"
    return name if len(name) <= LONGEST_NAME else f"reconcile:{hashlib.sha256(source.encode()).hexdigest()[:40]}"


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
