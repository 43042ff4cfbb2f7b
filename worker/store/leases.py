"""Named leases: who does a thing that one process should do. Losing one costs a repeat, never harm."""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from worker.store.engine import database_time, insert, is_sqlite
from worker.store.tables import leases

LONGEST_NAME = 63
"""Characters of the column."""

SWEEP = "sweep"
SWEEP_LASTING = timedelta(seconds=5)
"""A dead leader is missed for this long; the nudges of the receivers go on meanwhile."""

SWEEP_RENEWED = timedelta(seconds=3)
"""Before its end: a leader that sweeps once a second has two more tries, and an idle one writes to the disk every other
second or so, not every second."""

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


def lead(session: Session, name: str, holder: str, *, lasting: timedelta) -> bool:
    """`acquire` by the database's clock, in a transaction that holds nothing but leases: its commit does not wait for
    the disk. A lease that a power cut takes back is taken again by anybody, as one that has run out is."""
    if is_sqlite(session):
        return acquire(session, name, holder, now=database_time(session), lasting=lasting)
    values = {"name": name, "holder": holder, "lasting": lasting}
    return session.connection().exec_driver_sql(LEAD, values).first() is not None


LEAD = """
INSERT INTO leases (name, holder, expires_at)
VALUES (%(name)s, %(holder)s, clock_timestamp() + %(lasting)s)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE leases.holder = excluded.holder OR leases.expires_at <= clock_timestamp()
RETURNING set_config('synchronous_commit', 'off', true)
"""
"""`lead` for PostgreSQL, with `name`, `holder` and `lasting`; it answers with a row if the lease was taken."""


def standing(session: Session, name: str, holder: str, *, now: datetime) -> timedelta | None:
    """For how long the lease is still `holder`'s. Nothing at all means that it can be had; None that somebody else has
    it."""
    row = session.execute(select(leases.c.holder, leases.c.expires_at).where(leases.c.name == name)).one_or_none()
    if row is None or row.expires_at <= now:
        return timedelta()
    left: timedelta = row.expires_at - now
    return left if row.holder == holder else None


def release(session: Session, name: str, holder: str) -> None:
    """Give the lease back, so that the next one need not wait for it to run out."""
    session.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
