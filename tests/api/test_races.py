"""Many who write, many who read: the log skips nothing for anybody, and a list that is paged through neither.

Transactions take a random time between their events and their commit, so they commit in another order than they began.
"""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from sqlalchemy import text

from tests.support.results import PENDING, REJECTED, SOURCE, key, reading, store
from worker.domain.events import Event
from worker.domain.states import EventType, Outcome, Stage
from worker.store import outbox
from worker.store.engine import Database, database_time

WRITERS = 8
READERS = 2
LONGEST_PAUSE = 0.02


class Reader:
    """Reads on behind the last sequence that it saw, as often as it can."""

    def __init__(self, read: "Callable[[int], tuple[list[tuple[int, str]], int]]") -> None:
        self._read = read
        self._after = 0
        self.seen: list[tuple[int, str]] = []

    def look(self) -> int:
        found, self._after = self._read(self._after)
        self.seen += found
        return len(found)


def by_api(api):
    def read(after):
        page = api.application.test_client().get(
            f"/api/v1/events?after={after}&limit=7", environ_base=api.environ_base
        ).get_json()  # fmt: skip
        return [(item["sequence"], item["id"]) for item in page["items"]], page["next_after"]

    return read


def by_view(database):
    def read(after):
        with database.read() as session:
            rows = session.execute(
                text("SELECT sequence, id FROM v1_events WHERE sequence > :after ORDER BY sequence LIMIT 50"),
                {"after": after},
            ).all()
        return [(row.sequence, row.id) for row in rows], rows[-1].sequence if rows else after

    return read


def happened(writer: int, turn: int) -> Event:
    return Event(EventType.UPDATED, SOURCE, "inquiry", f"inq_{writer}_{turn}", 1, Stage.CREATED, Outcome.NONE)


def write(database: Database, writer: int, turns: int) -> None:
    dice = random.Random(writer)
    for turn in range(turns):
        with database.write() as session:
            outbox.append(session, [happened(writer, turn)], database_time(session))
            if not database.is_sqlite:
                threading.Event().wait(dice.random() * LONGEST_PAUSE)


def number(database: Database) -> None:
    with database.write() as session:
        outbox.number(session)


def repeat(stop: threading.Event, deed: Callable[[], object]) -> None:
    while not stop.is_set():
        deed()


def race(database: Database, readers: list[Reader], turns: int) -> None:
    written = threading.Event()
    with ThreadPoolExecutor(WRITERS + len(readers) + 2) as pool:
        others = [pool.submit(repeat, written, reader.look) for reader in readers]
        others += [pool.submit(repeat, written, lambda: number(database)) for _ in range(2)]
        try:
            for done in [pool.submit(write, database, writer, turns) for writer in range(WRITERS)]:
                done.result(60)
        finally:
            written.set()
        for other in others:
            other.result(60)
    number(database)
    for reader in readers:
        while reader.look():
            pass


def test_everybody_sees_every_event_once_and_in_order(api, database):
    turns = 3 if database.is_sqlite else 25
    readers = [Reader(by_api(api)) for _ in range(READERS)] + [Reader(by_view(database)) for _ in range(READERS)]

    race(database, readers, turns)

    written = {happened(writer, turn).id for writer in range(WRITERS) for turn in range(turns)}
    for reader in readers:
        assert [sequence for sequence, _ in reader.seen] == list(range(1, WRITERS * turns + 1))
        assert {name for _, name in reader.seen} == written


def change(database: Database, names: list[str], changes: int, done: threading.Event) -> None:
    """Change some results, and bring new ones, in an order that nobody foresees."""
    dice = random.Random(3)
    try:
        for number in range(changes):
            name = dice.choice(names) if number % 3 else f"new_{number}"
            store(database, key(name), reading(dice.choice((PENDING, REJECTED))))
    finally:
        done.set()


def paged_through(api) -> list[tuple[str, datetime]]:
    """The whole list, a few lines at a time."""
    seen: list[tuple[str, datetime]] = []
    query = "limit=3"
    while query:
        page = api.get(f"/api/v1/results?{query}").get_json()
        seen += [(item["external_id"], datetime.fromisoformat(item["updated_at"])) for item in page["items"]]
        query = f"limit=3&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    return seen


def test_a_list_that_is_paged_through_misses_nothing_that_was_there(api, database):
    """What is met again has changed meanwhile, and is met as it is by then."""
    names = [f"ver_{number}" for number in range(15)]
    for name in names:
        store(database, key(name))
    done = threading.Event()
    writer = threading.Thread(target=change, args=(database, names, 30, done))
    writer.start()
    rounds = [paged_through(api)]
    while not done.is_set():
        rounds.append(paged_through(api))
    writer.join()

    for seen in rounds:
        assert set(names) <= {name for name, _ in seen}
        assert len(set(seen)) == len(seen)
        newest: dict[str, datetime] = {}
        for name, moment in seen:
            assert name not in newest or newest[name] < moment
            newest[name] = moment
