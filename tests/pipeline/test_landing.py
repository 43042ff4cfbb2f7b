"""Landing: what calls brought is written once, by one at a time, and nothing is left lying."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from worker.clock import monotonic
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome, Cause, FailureKind, Priority
from worker.pipeline import landing
from worker.pipeline.landing import LARGEST_GROUP, Landings
from worker.pipeline.write import Landed, Situation
from worker.store.claims import Claim

PATIENCE = 20.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AWAY = OperationalError("", {}, Exception())


def landed(number):
    key = ResourceKey("a", ResourceRef("kind", str(number)))
    claim = Claim(number, key, "gu1", "sandbox", UUID(int=7), 1, 1, Cause.WEBHOOK, Priority.LIVE, 0, 0, NOW, NOW)
    return Landed(claim, Failure(FailureKind.NETWORK, "x"), Situation(timedelta(1), 0.5))


class Books:
    """A pump that counts. `write` does what `writing` says first."""

    def __init__(self):
        self.lock = threading.Lock()
        self.groups = []
        self.at_once = self.most_at_once = 0
        self.noted: Counter[int] = Counter()
        self.left: Counter[int] = Counter()
        self.woken = threading.Event()
        self.writing = lambda group: None

    def write(self, group):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.groups.append(len(group))
        try:
            self.writing(group)
        finally:
            with self.lock:
                self.at_once -= 1
        return [AttemptOutcome.FAILED] * len(group)

    def note_written(self, item, written):
        with self.lock:
            self.noted[item.claim.resource_id] += 1

    def make_room(self, claims):
        with self.lock:
            self.left.update(claim.resource_id for claim in claims)

    def wake(self):
        self.woken.set()


@pytest.fixture
def books():
    return Books()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as made:
        yield made


def landings(books, pool):
    return Landings(books, pool.submit, patience=PATIENCE)


def put(made, number):
    item = landed(number)
    made.put(item.claim, lambda: item)


def until_over(made):
    ends = monotonic() + PATIENCE
    while made:
        assert monotonic() < ends, "something was left"
        made.try_again()
        threading.Event().wait(0.001)


def held_up(books):
    """Lets nobody finish before the event."""
    free = threading.Event()
    books.writing = lambda group: free.wait(PATIENCE)
    return free


def wait_for(true):
    ends = monotonic() + PATIENCE
    while not true():
        assert monotonic() < ends
        threading.Event().wait(0.001)


def test_one_alone_is_written_at_once(books, pool):
    made = landings(books, pool)
    put(made, 1)
    until_over(made)

    assert (books.groups, books.noted, books.left) == ([1], Counter([1]), Counter([1]))
    assert books.woken.wait(PATIENCE)


def test_what_lands_meanwhile_is_written_together(books, pool):
    free = held_up(books)
    made = landings(books, pool)
    for number in range(32):
        put(made, number)
    wait_for(lambda: books.groups)
    assert books.groups == [1]
    free.set()
    until_over(made)

    assert books.groups == [1, 31]
    assert set(books.noted.values()) == {1}


def test_one_writes_and_no_group_is_too_large(books, pool):
    free = held_up(books)
    made = landings(books, pool)
    for number in range(200):
        put(made, number)
    free.set()
    until_over(made)

    assert (books.most_at_once, max(books.groups)) == (1, LARGEST_GROUP)
    assert books.noted == Counter(range(200))


def test_a_writer_that_meets_a_bug_ends_no_other(books, pool):
    def break_once(group):
        books.writing = lambda _: None
        books.make_room = Books.make_room.__get__(books)

    made = landings(books, pool)
    books.make_room = lambda claims: 1 / 0
    put(made, 1)
    until_over(made)
    break_once([])
    put(made, 2)
    until_over(made)

    assert books.noted == Counter([2])


def test_an_answer_is_read_once_by_the_thread_that_writes(books, pool):
    tries = []
    reading: list[int] = []

    def away_at_first(group):
        tries.append(threading.get_ident())
        if len(tries) == 1:
            raise AWAY

    def read():
        reading.append(threading.get_ident())
        return landed(1)

    books.writing = away_at_first
    made = landings(books, pool)
    made.put(landed(1).claim, read)
    until_over(made)

    assert reading == tries[:1] != [threading.get_ident()]
    assert (len(tries), books.noted) == (2, Counter([1]))


class Panic(BaseException):
    """What is no Exception."""


@pytest.mark.parametrize("error", [ValueError, Panic])
def test_an_answer_that_cannot_be_read_takes_no_other_along(books, pool, error):
    free = held_up(books)
    made = landings(books, pool)
    put(made, 0)
    wait_for(lambda: books.groups)

    def read():
        raise error

    for number in range(1, 10):
        if number == 4:
            made.put(landed(number).claim, read)
        else:
            put(made, number)
    free.set()
    until_over(made)

    assert books.noted == Counter({*range(10)} - {4})


@pytest.mark.parametrize("away", [0, 3])
def test_what_takes_long_to_read_is_written_before_all_are_read(books, pool, monkeypatch, away):
    monkeypatch.setattr(landing, "READ_SECONDS", 0.0)
    monkeypatch.setattr(landing, "WRITE_PAUSE", 0.001)

    def away_at_first(group):
        if len(books.groups) <= away:
            raise AWAY

    books.writing = away_at_first
    made = landings(books, pool)
    slowly = threading.Event()

    def read(number):
        slowly.wait(0.002)
        return landed(number)

    for number in range(20):
        made.put(landed(number).claim, partial(read, number))
    until_over(made)

    assert (max(books.groups), books.noted) == (1, Counter(range(20)))


def test_a_panic_of_a_writer_stops_none_of_those_behind(books, pool):
    def panic(group):
        books.writing = lambda _: None
        raise Panic

    books.writing = panic
    made = landings(books, pool)
    put(made, 1)
    until_over(made)
    assert books.woken.is_set()
    put(made, 2)
    until_over(made)

    assert books.noted == Counter([2])


def test_a_thread_that_cannot_be_started_loses_nothing(books, pool):
    def refuse(job):
        raise RuntimeError("can't start new thread")

    made = Landings(books, refuse, patience=PATIENCE)
    for number in range(3):
        with pytest.raises(RuntimeError):
            put(made, number)
    assert made
    made.try_again()

    assert books.noted == Counter(range(3))
    assert not made


def test_a_stop_gives_up_what_cannot_be_written(books, pool):
    made = landings(books, pool)

    def fail(group):
        raise AWAY

    books.writing = fail
    put(made, 1)
    wait_for(lambda: made.pause is not None)
    put(made, 2)
    made.stop()
    made.try_again()

    assert not made
    assert not books.noted


@pytest.mark.parametrize("seed", range(5))
def test_whatever_fails_everything_is_written_once(books, pool, seed, monkeypatch):
    """Eight threads bring answers while every third group meets a database that is away."""
    monkeypatch.setattr(landing, "WRITE_PAUSE", 0.001)
    chance = random.Random(seed)

    def sometimes(group):
        with books.lock:
            fails = chance.random() < 0.3
        if fails:
            raise AWAY
        threading.Event().wait(chance.random() / 500)

    books.writing = sometimes
    made = landings(books, pool)

    def bring(first):
        for number in range(first, first + 100):
            put(made, number)
            if number % 10 == 0:
                threading.Event().wait(0.001)

    bringing = [threading.Thread(target=bring, args=(100 * one,)) for one in range(8)]
    for each in bringing:
        each.start()
    for each in bringing:
        each.join()
    until_over(made)

    assert books.noted == Counter(range(800))
    assert books.most_at_once == 1
