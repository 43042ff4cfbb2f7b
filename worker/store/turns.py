"""A sink's turn: the lease on delivering to it and what it is to get, and what is written down when it has got it.

PostgreSQL does each of them in one statement, which commits by itself. Where nothing is wrong, a turn is two words with
the server; an event waits for no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from sqlalchemy.orm import Session

from worker.store import leases, outbox
from worker.store.engine import is_sqlite
from worker.store.outbox import Look, Taken, numbered, sink_cursor
from worker.store.tables import events


@dataclass(frozen=True, slots=True)
class Turn:
    """Who delivers to which sink: `holder` takes the lease of that name for so long."""

    sink: str
    lease: str
    holder: str
    lasting: timedelta


def begin(session: Session, turn: Turn, limit: int) -> Look | None:
    """Take the lease, and look what the sink has not got yet; None while another holder has it. By the database's
    clock; the lease's commit does not wait for the disk, see `leases.lead`."""
    if is_sqlite(session):
        if not leases.lead(session, turn.lease, turn.holder, lasting=turn.lasting):
            return None
        return outbox.look(session, turn.sink, limit)
    values = {
        "name": turn.lease,
        "holder": turn.holder,
        "lasting": turn.lasting,
        "sink": turn.sink,
        "cursor": sink_cursor(turn.sink),
    }
    rows = session.connection().exec_driver_sql(_begin(limit), values).all()
    if not rows[0].led:
        return None
    if not rows[0].fresh:
        return outbox.look(session, turn.sink, limit)
    return Look([numbered(row) for row in rows if row.sequence is not None], bool(rows[0].troubled))


@lru_cache(maxsize=8)
def _begin(limit: int) -> str:
    """What the statement sees is as old as itself, and it may have waited for whoever had the lease before. Then it
    sees a lease that is another's no more, or locks a cursor that is not the one it sees, and everything else that it
    sees may have changed as well: that the sink is away, or that events wait. A sink without a cursor is looked at
    anew."""
    columns = ", ".join(column.name for column in events.c)
    return f"""
WITH led AS ({leases.LEAD}),
mine AS (SELECT value FROM cursors WHERE name = %(cursor)s AND EXISTS (SELECT FROM led) FOR SHARE),
seen AS (SELECT value FROM cursors WHERE name = %(cursor)s),
state AS (
    SELECT EXISTS (SELECT FROM led) AS led,
           (SELECT value FROM mine) = (SELECT value FROM seen)
           AND NOT EXISTS (SELECT FROM leases WHERE name = %(name)s AND holder <> %(holder)s) AS fresh,
           (SELECT value FROM mine) IS NULL
           OR EXISTS (SELECT FROM sink_states WHERE sink = %(sink)s AND failures > 0)
           OR EXISTS (SELECT FROM undelivered_events WHERE sink = %(sink)s AND state = 'waiting') AS troubled
),
unread AS (
    SELECT {columns} FROM events
    WHERE sequence > coalesce((SELECT value FROM mine), 0) AND EXISTS (SELECT FROM led)
    ORDER BY sequence LIMIT {limit}
)
SELECT state.*, unread.* FROM state LEFT JOIN unread ON true ORDER BY unread.sequence
"""  # noqa: S608 - names and a number of our own


def give_back(session: Session, turn: Turn) -> None:
    """Give the lease back with nothing done. The commit does not wait for the disk either."""
    if is_sqlite(session):
        leases.release(session, turn.lease, turn.holder)
    else:
        session.connection().exec_driver_sql(_GIVE_BACK, {"name": turn.lease, "holder": turn.holder})


_GIVE_BACK = """
DELETE FROM leases WHERE name = %(name)s AND holder = %(holder)s RETURNING set_config('synchronous_commit', 'off', true)
"""


def end(session: Session, turn: Turn, taken: Sequence[int], *, position: int) -> None:
    """The sink has got the events with these sequences, at once and without trouble: move its cursor to `position`, and
    give the lease back."""
    if is_sqlite(session):
        outbox.delivered(session, turn.sink, [Taken(sequence) for sequence in taken], position=position)
        leases.release(session, turn.lease, turn.holder)
        return
    values = {
        "lease": turn.lease,
        "holder": turn.holder,
        "sink": turn.sink,
        "cursor": sink_cursor(turn.sink),
        "position": position,
        "taken": sorted(taken),
    }
    session.connection().exec_driver_sql(_END, values)


_END = """
WITH noted AS (
    INSERT INTO event_deliveries (sink, sequence, attempts, delivered_at)
    SELECT %(sink)s, taken.sequence, 1, clock_timestamp() FROM unnest(%(taken)s::bigint[]) AS taken (sequence)
    ON CONFLICT (sink, sequence)
    DO UPDATE SET attempts = event_deliveries.attempts + 1, delivered_at = excluded.delivered_at
),
moved AS (
    INSERT INTO cursors (name, value) VALUES (%(cursor)s, %(position)s)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE cursors.value < excluded.value
)
DELETE FROM leases WHERE name = %(lease)s AND holder = %(holder)s
"""
