"""The event log: each thing once, numbered without gaps, and a cursor that can be trusted."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import event, text

from tests.store.play import EARLY, SOURCE, number_all, rows, undone
from worker.domain.events import Event
from worker.domain.states import EventType, Outcome, Stage
from worker.store import outbox
from worker.store.outbox import Taken
from worker.store.tables import cursors, event_deliveries, events


def happened(number: int, **more) -> Event:
    return Event(EventType.UPDATED, SOURCE, "inquiry", f"inq_{number}", 1, Stage.CREATED, Outcome.NONE, **more)


def append(database, *new: Event) -> None:
    with database.write() as session:
        outbox.append(session, new, EARLY)


def read(database, after=0, limit=100):
    with database.read() as session:
        return outbox.read(session, after, limit)


def test_an_event_is_written_once_however_often_it_happens(database):
    append(database, happened(1), happened(2), happened(1))
    append(database, happened(2), happened(1, data={"other": True}))
    append(database)

    assert [row.id for row in rows(database, events)] == [happened(1).id, happened(2).id]
    assert rows(database, events)[0].data == {}


def test_events_are_numbered_in_order_and_without_gaps(database):
    append(database, *(happened(number) for number in range(3)))
    assert number_all(database) == 3
    append(database, *(happened(number) for number in range(10)))
    assert number_all(database) == 7
    assert number_all(database) == 0

    assert [row.sequence for row in rows(database, events)] == list(range(1, 11))
    assert [row.value for row in rows(database, cursors, name="events")] == [10]


def test_a_rolled_back_event_leaves_no_gap(database):
    append(database, happened(1))
    with undone(database) as session:
        outbox.append(session, [happened(2)], EARLY)
    append(database, happened(3))

    number_all(database)

    assert [(row.external_id, row.sequence) for row in rows(database, events)] == [("inq_1", 1), ("inq_3", 2)]


def test_one_numbering_is_bounded(database):
    append(database, *(happened(number) for number in range(outbox.NUMBERED_AT_ONCE + 5)))

    assert [number_all(database), number_all(database)] == [outbox.NUMBERED_AT_ONCE, 5]
    assert [row.sequence for row in rows(database, events)] == list(range(1, outbox.NUMBERED_AT_ONCE + 6))


def test_whether_anything_waits_for_its_number(database):
    def waiting():
        with database.read() as session:
            return outbox.any_unnumbered(session)

    assert waiting() is False
    append(database, happened(1))
    assert waiting() is True
    number_all(database)
    assert waiting() is False


def test_events_are_read_by_cursor(database):
    append(database, *(happened(number, data={"n": number}) for number in range(5)))
    assert read(database) == []
    number_all(database)

    assert [item.sequence for item in read(database, after=1, limit=3)] == [2, 3, 4]
    [first] = read(database, limit=1)
    assert first.event == happened(0, data={"n": 0})
    assert (first.id, first.occurred_at) == (happened(0).id, EARLY)
    assert read(database, after=5) == []


def test_an_event_about_a_source_reads_back(database):
    held = Event(EventType.HELD, SOURCE, occasion="hold-1", data={"source": SOURCE})
    append(database, held)
    number_all(database)

    [found] = read(database)
    assert (found.id, found.event.type, found.event.kind, found.event.stage) == (held.id, EventType.HELD, None, None)


def test_a_sink_has_a_cursor_that_only_goes_forward(database):
    def position():
        with database.read() as session:
            return outbox.sink_position(session, "log")

    assert position() == 0
    for taken, reached in (([1, 2, 3], 3), ([2], 2), ([], 0), ([3, 4], 4), ([], 6)):
        with database.write() as session:
            outbox.delivered(session, "log", map(Taken, taken), position=reached)

    assert position() == 6, "what the sink does not want is passed over"
    attempts = {row.sequence: row.attempts for row in rows(database, event_deliveries)}
    assert attempts == {1: 1, 2: 2, 3: 2, 4: 1}
    with database.read() as session:
        assert outbox.sink_position(session, "other") == 0


def test_who_is_behind_is_known_without_looking_at_events(database):
    append(database, happened(1), happened(2))
    number_all(database)
    with database.write() as session:
        outbox.delivered(session, "there", [Taken(1), Taken(2)], position=2)
        outbox.delivered(session, "halfway", [Taken(1)], position=1)

    with database.read() as session:
        assert outbox.behind(session, ["there", "halfway", "new"]) == {"halfway", "new"}


WRITERS = 6


class Poller:
    """A consumer that remembers the last number it has seen, and never looks back."""

    def __init__(self, database) -> None:
        self.database = database
        self.seen: list[int] = []
        self.ids: list[str] = []

    def look(self) -> int:
        """How many rows the view shows behind the cursor."""
        with self.database.read() as session:
            found = session.execute(
                text("SELECT sequence, id FROM v1_events WHERE sequence > :last ORDER BY sequence"),
                {"last": self.seen[-1] if self.seen else 0},
            ).all()
        self.seen += [row.sequence for row in found]
        self.ids += [row.id for row in found]
        return len(found)


def write_slowly(database, writer, turns):
    dice = random.Random(writer)
    for turn in range(turns):
        with database.write() as session:
            outbox.append(session, [happened(writer * 1000 + turn * 2 + part) for part in (0, 1)], EARLY)
            # Other transactions overtake this one: its rows are inserted and not yet committed.
            threading.Event().wait(0 if database.is_sqlite else dice.random() * 0.006)


def repeat_until(stop, deed):
    while not stop.is_set():
        deed()


def test_no_event_ever_appears_behind_a_cursor(database):
    """Writers commit in another order than they insert, two numberers compete, and a poller watches."""
    turns = 4 if database.is_sqlite else 20
    written = threading.Event()
    poller = Poller(database)
    with ThreadPoolExecutor(WRITERS + 3) as pool:
        others = [pool.submit(repeat_until, written, lambda: number_all(database)) for _ in range(2)]
        others.append(pool.submit(repeat_until, written, poller.look))
        try:
            for done in [pool.submit(write_slowly, database, writer, turns) for writer in range(WRITERS)]:
                done.result(30)
        finally:
            written.set()
        for other in others:
            other.result(30)
    while number_all(database) + poller.look():
        pass

    assert poller.seen == list(range(1, WRITERS * turns * 2 + 1))
    assert len(set(poller.ids)) == len(poller.ids)


def test_events_of_one_resource_keep_their_order(database):
    append(database, happened(1), happened(2))
    append(database, happened(1, occasion="again"), happened(2, occasion="again"))
    number_all(database)

    assert [item.event.external_id for item in read(database)] == ["inq_1", "inq_2"] * 2


def test_numbering_uses_the_index(database):
    """It is asked for every second, and the table only grows."""
    statements = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, _parameters, _context, _many):
        statements.append(statement)

    with database.read() as session:
        outbox.any_unnumbered(session)
        connection = session.connection()
        looked = next(found for found in statements if "sequence IS NULL" in found)
        if database.is_sqlite:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {looked}", (1, 0)).all()
        else:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {looked}", {"param_1": 1}).all()
    assert "SCAN events" not in str(plan)
    assert "Seq Scan" not in str(plan)
