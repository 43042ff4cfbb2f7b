"""Requests that arrive together share a transaction, and nobody pays for another's item."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.clock import monotonic
from worker.errors import IntakeUnavailable
from worker.pipeline import group_commit
from worker.pipeline.group_commit import LARGEST_GROUP, GroupCommit

WAIT = 5.0


class Away(Exception):
    """The database is away."""


class Poisoned(Exception):
    """This item can never be stored."""


class Store:
    """Doubles numbers in groups. The first group waits for `gate`; negative numbers are poison."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.away = False
        self.commits: GroupCommit[int, int] = GroupCommit(self.commit, passing=(Away,))

    def commit(self, items):
        self.groups.append(list(items))
        if len(self.groups) == 1:
            self.entered.set()
            assert self.gate.wait(WAIT)
        if self.away:
            raise Away
        if any(item < 0 for item in items):
            raise Poisoned
        return [item * 2 for item in items]

    def wait_for_a_queue(self, length):
        while len(self.commits._waiting) < length:
            threading.Event().wait(0.001)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(LARGEST_GROUP * 2) as threads:
        yield threads


def submit_behind_a_first(store, pool, items):
    """One request is being committed while the others arrive in this order, and then it is let go."""
    futures = [pool.submit(store.commits.submit, 1, WAIT)]
    assert store.entered.wait(WAIT)
    for place, item in enumerate(items):
        futures.append(pool.submit(store.commits.submit, item, WAIT))
        store.wait_for_a_queue(place + 1)
    store.gate.set()
    return futures


def test_alone_at_once(store):
    store.gate.set()

    assert [store.commits.submit(number, WAIT) for number in (1, 2)] == [2, 4]
    assert store.groups == [[1], [2]]


@pytest.mark.parametrize(("seconds", "group"), [(WAIT, [4, 5]), (0.0, [4])])
def test_a_group_behind_a_larger_one_gives_others_a_moment_to_come(store, pool, monkeypatch, seconds, group):
    """And no longer than that, and none once as many are there as in the group before."""
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", seconds)
    second, again = threading.Event(), threading.Event()
    commit = store.commits._commit

    def held(items):
        if len(store.groups) == 1:
            second.set()
            assert again.wait(WAIT)
        return commit(items)

    store.commits._commit = held
    futures = submit_behind_a_first(store, pool, [2, 3])
    assert second.wait(WAIT)
    futures.append(pool.submit(store.commits.submit, 4, WAIT))
    store.wait_for_a_queue(1)
    again.set()
    # It leads, and is no longer in the queue.
    while store.commits._waiting:
        threading.Event().wait(0.001)
    if not seconds:
        assert futures[3].result(WAIT) == 8
    began = monotonic()
    futures.append(pool.submit(store.commits.submit, 5, WAIT))

    assert [future.result(WAIT) for future in futures] == [2, 4, 6, 8, 10]
    assert monotonic() - began < WAIT / 2
    assert store.groups[:3] == [[1], [2, 3], group]


def test_what_arrives_during_a_commit_is_the_next_group(store, pool):
    futures = submit_behind_a_first(store, pool, [2, 3, 4])

    assert [future.result(WAIT) for future in futures] == [2, 4, 6, 8]
    assert store.groups == [[1], [2, 3, 4]]


def test_a_group_has_an_end(store, pool):
    futures = submit_behind_a_first(store, pool, range(2, LARGEST_GROUP + 7))

    assert sum(future.result(WAIT) for future in futures) == sum(range(LARGEST_GROUP + 7)) * 2
    assert [len(group) for group in store.groups] == [1, LARGEST_GROUP, 5]


def test_a_poisoned_item_fails_alone(store, pool):
    futures = submit_behind_a_first(store, pool, [2, -3, 4])

    assert [futures[place].result(WAIT) for place in (0, 1, 3)] == [2, 4, 8]
    assert isinstance(futures[2].exception(WAIT), Poisoned)
    assert store.groups == [[1], [2, -3, 4], [2], [-3], [4]]


def test_passing_trouble_is_everybodys_and_is_not_tried_again(store, pool):
    store.away = True
    futures = submit_behind_a_first(store, pool, [2, 3])

    assert [type(future.exception(WAIT)) for future in futures] == [Away] * 3
    assert store.groups == [[1], [2, 3]]
    store.away = False
    assert store.commits.submit(5, WAIT) == 10


def test_trouble_that_begins_while_items_are_tried_alone_is_that_of_the_rest(store, pool):
    commit = store.commit

    def commit_until_away(items):
        store.away = store.away or list(items) == [-3]
        return commit(items)

    store.commits = GroupCommit(commit_until_away, passing=(Away,))
    futures = submit_behind_a_first(store, pool, [2, -3, 4])

    assert futures[1].result(WAIT) == 4
    assert [type(future.exception(WAIT)) for future in futures[2:]] == [Away, Away]


def test_too_many_are_told_to_come_again(store, pool, monkeypatch):
    monkeypatch.setattr(group_commit, "MOST_WAITING", 3)
    futures = [pool.submit(store.commits.submit, 1, WAIT)]
    assert store.entered.wait(WAIT)
    futures += [pool.submit(store.commits.submit, number, WAIT) for number in (2, 3, 4)]
    store.wait_for_a_queue(3)

    with pytest.raises(IntakeUnavailable, match="too many"):
        store.commits.submit(5, WAIT)

    store.gate.set()
    assert [future.result(WAIT) for future in futures] == [2, 4, 6, 8]


def test_who_waits_too_long_is_told_so_and_is_not_committed(store, pool):
    first = pool.submit(store.commits.submit, 1, WAIT)
    assert store.entered.wait(WAIT)

    with pytest.raises(IntakeUnavailable, match="in time"):
        store.commits.submit(2, 0.02)

    store.gate.set()
    assert first.result(WAIT) == 2
    assert store.commits.submit(3, WAIT) == 6
    assert store.groups == [[1], [3]]


def test_who_is_in_a_group_that_hangs_is_told_so(store, pool):
    hung, release = threading.Event(), threading.Event()
    commit = store.commit

    def hang_in_the_second_group(items):
        if len(store.groups) == 1:
            hung.set()
            assert release.wait(WAIT)
        return commit(items)

    store.commits = GroupCommit(hang_in_the_second_group, passing=(Away,))
    first = pool.submit(store.commits.submit, 1, WAIT)
    assert store.entered.wait(WAIT)
    leader = pool.submit(store.commits.submit, 2, WAIT)
    store.wait_for_a_queue(1)
    member = pool.submit(store.commits.submit, 3, 0.3)
    store.wait_for_a_queue(2)
    store.gate.set()
    assert hung.wait(WAIT)

    with pytest.raises(IntakeUnavailable):
        member.result(WAIT)
    release.set()
    assert [first.result(WAIT), leader.result(WAIT)] == [2, 4]


def test_nobody_is_lost_among_many(store, pool):
    store.gate.set()

    assert list(pool.map(lambda number: store.commits.submit(number, WAIT), range(2000))) == [
        number * 2 for number in range(2000)
    ]
    assert sorted(item for group in store.groups for item in group) == list(range(2000))
