"""Follow decisions in the results database, by SQL. Needs: sqlalchemy, and psycopg for PostgreSQL.

    RESULTS_URL=postgresql+psycopg://reader@db/verisink OWN_URL=sqlite:///decisions.db python consumer.py

What was decided and how far the events are read are committed together here, in a database of this program's own: it
may be killed at any moment, and goes on where it was.
"""

import os
import signal
import sys
import time

from sqlalchemy import Connection, create_engine, text

EVENTS = text(
    "SELECT sequence, source, kind, external_id FROM v1_events "
    "WHERE sequence > :after AND version IS NOT NULL ORDER BY sequence LIMIT 100"
)
# The event says that something happened. What holds now is the result's to say: it may be newer than the event.
RESULT = text(
    "SELECT source, kind, external_id, version, stage, outcome, reference FROM v1_results "
    "WHERE source = :source AND kind = :kind AND external_id = :external_id"
)
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "1"))


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    results, own = create_engine(os.environ["RESULTS_URL"]), create_engine(os.environ["OWN_URL"])
    with own.begin() as mine:
        prepare(mine)
    while True:
        with results.connect() as theirs, own.begin() as mine:
            busy = step(theirs, mine)
        if not busy:
            time.sleep(PAUSE_SECONDS)


def prepare(mine: Connection) -> None:
    mine.execute(text("CREATE TABLE IF NOT EXISTS place (sequence BIGINT NOT NULL)"))
    mine.execute(
        text(
            "CREATE TABLE IF NOT EXISTS decisions (source TEXT, kind TEXT, external_id TEXT, version INTEGER, "
            "stage TEXT, outcome TEXT, reference TEXT, PRIMARY KEY (source, kind, external_id))"
        )
    )
    if mine.execute(text("SELECT count(*) FROM place")).scalar_one() == 0:
        mine.execute(text("INSERT INTO place VALUES (0)"))


def step(theirs: Connection, mine: Connection) -> bool:
    """Take some events; whether there were any."""
    after = mine.execute(text("SELECT sequence FROM place")).scalar_one()
    events = theirs.execute(EVENTS, {"after": after}).mappings().all()
    for event in events:
        result = theirs.execute(RESULT, {name: event[name] for name in ("source", "kind", "external_id")})
        for row in result.mappings():
            mine.execute(
                text(
                    "INSERT INTO decisions VALUES "
                    "(:source, :kind, :external_id, :version, :stage, :outcome, :reference) "
                    "ON CONFLICT (source, kind, external_id) DO UPDATE SET version = excluded.version, "
                    "stage = excluded.stage, outcome = excluded.outcome, reference = excluded.reference"
                ),
                dict(row),
            )
    if events:
        mine.execute(text("UPDATE place SET sequence = :to"), {"to": events[-1]["sequence"]})
    return bool(events)


if __name__ == "__main__":
    main()
