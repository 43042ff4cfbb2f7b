"""The claim protocol, explored: workers that crash between any two steps, and a model that knows what must come of it.

For a longer walk: `VERISINK_TEST_MODEL_EXAMPLES=2000 pytest tests/store/test_claim_model.py`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import event

from tests.store.claim_model import Model, Revision, Span, Work, aged
from tests.store.claim_rows import Auditor, empty, pass_time
from tests.store.play import APPROVED, CREATED, ERASED, LEASE, OTHER, REJECTED, SOURCE, arrival, document, key, undone
from tests.store.play import reading as reading_of
from tests.support.writing import write_document, write_failure
from worker.domain.model import ResourceKey
from worker.domain.retry import POISON_CRASHES, PROBE_AFTER, Failure
from worker.domain.states import Cause, FailureKind, Priority
from worker.errors import ClaimLost
from worker.pipeline.write import Situation
from worker.store import claims, inbox, resources, sources
from worker.store.engine import Database, Session, database_time
from worker.store.resources import Claim, Want

# Read when this file is imported, because a guard hides them from the tests.
EXAMPLES = int(os.environ.get("VERISINK_TEST_MODEL_EXAMPLES", "20"))
STEPS = 40
SECONDS_AN_EXAMPLE = 8
"""Generous: it is half a second on a quiet machine, and a failure is shrunk by running hundreds of examples."""

WORKERS = 3
NEWS = 100
"""Notifications of a change are numbered from here, so that none is the repeat of another."""

HORIZON = timedelta(days=3)
DATED, SILENT, ELSEWHERE = key("inq_dated"), key("inq_silent"), key("inq_elsewhere", source=OTHER)
KEYS = (DATED, SILENT, ELSEWHERE)
VERDICTS = (CREATED, APPROVED, REJECTED, ERASED)
STATUSES = {
    FailureKind.SERVER_ERROR: 503,
    FailureKind.NOT_FOUND: 404,
    FailureKind.CONFLICT: 409,
    FailureKind.RATE_LIMITED: 429,
    FailureKind.CREDENTIAL: 401,
    FailureKind.REJECTED: 422,
}
FAILURES = [kind for kind in FailureKind if kind not in (FailureKind.CRASHED, FailureKind.STALE)]
FRESH, OUTDATED = "fresh", "outdated"
OUTLIVED = LEASE + timedelta(seconds=1)
WAITS = [timedelta(seconds=3), LEASE / 2, OUTLIVED, timedelta(hours=2), timedelta(days=4)]
SET_BACK = -timedelta(seconds=37)
LONG = timedelta(hours=2, seconds=1)
"""Longer than any backoff, throttle, probe's wait or lease."""

ROUNDS = 12
"""A good worker needs a few: one for a probe, one for each want that came in the middle of a call."""

picks = st.integers(0, 5)
workers = st.integers(0, WORKERS - 1)
answers = st.sampled_from([FRESH] * 5 + [OUTDATED] * 5 + FAILURES)
sometimes = st.sampled_from([False, False, False, True])
mostly_one = st.sampled_from([SOURCE, SOURCE, SOURCE, OTHER])
often = st.sampled_from([1, 1, 1, 2, 7])


@dataclass
class Call:
    """What a worker has in its memory, and forgets when it crashes."""

    worker: int
    claim: Claim
    situation: Situation
    answer: Revision | Failure | None = None
    lost: bool = False
    """It was told that its claim had ended, and has not taken its crash back yet."""


class Claims(RuleBasedStateMachine):
    """Every rule is one transaction, or a few in the order in which a worker makes them."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.keys: tuple[ResourceKey, ...] = KEYS
        self.model = Model([Work(item) for item in KEYS])
        self.auditor = Auditor(self.database, self.model)
        self.provider = {item: [Revision(1, CREATED, 0, item is not SILENT)] for item in KEYS}
        self.calls: list[Call] = []
        self.delivered: set[tuple[str, str]] = set()
        self.sound = True
        empty(self.database)

    @contextmanager
    def step(self) -> Iterator[None]:
        """What fails in here is a finding; after it, the end of the walk proves nothing more."""
        self.sound = False
        yield
        self.auditor.check()
        self.sound = True

    # What happens outside.

    @initialize(chosen=st.sampled_from([(DATED,), (SILENT,), (DATED, SILENT), KEYS]), changes=st.integers(0, 2))
    def begin(self, chosen, changes) -> None:
        """With fewer resources, more happens to each; and some have a history."""
        self.keys = chosen
        self.notify([(which, 0) for which in range(len(chosen))], looks_again=False)
        for note in range(1, changes + 1):
            self._work(0, SOURCE, FRESH)
            for which in range(len(chosen)):
                self.change(which, APPROVED, note % 2, tells=True)

    @rule(which=picks, verdict=st.sampled_from(VERDICTS), note=st.integers(0, 1), tells=st.booleans())
    def change(self, which, verdict, note, tells) -> None:
        """The provider's document changes. It tells at once, later, or never."""
        revisions = self.provider[self._key(which)]
        revisions.append(Revision(len(revisions) + 1, verdict, note, revisions[0].dated))
        if tells:
            self.notify([(which, NEWS + len(revisions))], looks_again=False)

    @rule(named=st.lists(st.tuples(picks, st.integers(0, 5)), min_size=1, max_size=4), looks_again=st.booleans())
    def notify(self, named, looks_again) -> None:
        """Deliveries arrive together, new ones and repeats."""
        arrivals = []
        counts: dict[ResourceKey, int] = {}
        for which, number in named:
            item = self._key(which)
            name = f"evt-{item.ref.external_id}-{number}"
            arrivals.append(arrival(name, item.ref.external_id, source=item.source, looks_again=looks_again))
            told = looks_again or (item.source, name) not in self.delivered
            counts[item] = counts.get(item, 0) + told
            self.delivered.add((item.source, name))
        with self.step():
            with self.database.write() as session:
                first = database_time(session)
                inbox.record(session, arrivals)
                span = Span(first, database_time(session))
            for item, count in counts.items():
                self._wanted(item, count, Priority.LIVE, Cause.WEBHOOK, span)

    @rule(which=picks, priority=st.sampled_from(Priority), revive=st.booleans())
    def ask(self, which, priority, revive) -> None:
        """An operator, or a reconciliation, asks for it."""
        item = self._key(which)
        want = Want("persona", "sandbox", Cause.REPLAY, priority)
        with self.step():
            with self.database.write() as session:
                first = database_time(session)
                resources.mark_wanted(session, {item: want}, first, revive=revive)
                span = Span(first, database_time(session))
            self._wanted(item, 1, priority, Cause.REPLAY, span, revive=revive)

    def _wanted(self, item, count, priority, cause, span, *, revive=False) -> None:
        work = self.model.works[item]
        if count:
            work.told = len(self.provider[item])
        work.want(count, priority, cause, span, revive=revive)

    @rule(by=st.sampled_from([*WAITS, SET_BACK]))
    def wait(self, by) -> None:
        pass_time(self.database, by)
        self.model.pass_time(by)
        for call in self.calls:
            call.claim = aged(call.claim, by)

    # What workers do, a step at a time.

    @precondition(lambda self: self._anything_ahead())
    @rule(
        worker=workers,
        source=mostly_one,
        limit=st.integers(1, 3),
        jitter=st.sampled_from([0, 0.5]),
    )
    def claim(self, worker, source, limit, jitter) -> None:
        with self.step():
            with self.database.write() as session:
                first = database_time(session)
                probing, claims = _claim(session, source, limit)
                span = Span(first, database_time(session))
            if claims is None:
                assert self.model.accounts[source].held or self.model.accounts[source].throttled
                return
            assert probing is self.model.accounts[source].held
            self.model.claimed(source, 1 if probing else limit, claims, span, LEASE)
            situation = Situation(HORIZON, jitter, probing)
            self.calls += [Call(worker, claim, situation) for claim in claims]

    @precondition(lambda self: self._open())
    @rule(pick=picks, how=answers)
    def read(self, pick, how) -> None:
        """The provider answers; what it says may be long outdated when it is written."""
        self._read(_one(self._open(), pick), how)

    def _read(self, call, how) -> None:
        revisions = self.provider[call.claim.key]
        superseded = [one for one in revisions if one.number < self.model.works[call.claim.key].seen]
        if call.claim.crashes >= POISON_CRASHES:
            call.answer = Failure(FailureKind.CRASHED, "poison")
        elif isinstance(how, FailureKind):
            call.answer = Failure(how, "because", STATUSES.get(how))
        elif how == OUTDATED and superseded and revisions[0].dated:
            # A replica that lags shows what was stored before. Where documents have no dates, nobody could tell.
            call.answer = superseded[-1]
        else:
            call.answer = revisions[-1]

    @precondition(lambda self: self._answered())
    @rule(pick=picks, word_lost=sometimes)
    def write(self, pick, word_lost) -> None:
        """If the word of the commit is lost, the worker believes that it failed, and writes again."""
        self._write(_one(self._answered(), pick), word_lost=word_lost)

    def _write(self, call, *, word_lost=False) -> None:
        holds = self.model.works[call.claim.key].token == call.claim.token
        with self.step():
            try:
                with self.database.write() as session:
                    first = database_time(session)
                    outcome = _write(session, call)
                    span = Span(first, database_time(session))
            except ClaimLost:
                assert not holds
                call.lost = True
                return
            assert holds, "whoever holds no claim writes nothing"
            assert outcome is self.model.written(call.claim, call.answer, call.situation, span)
        if not word_lost:
            self.calls.remove(call)

    @precondition(lambda self: self._lost())
    @rule(pick=picks)
    def note_fenced(self, pick) -> None:
        self._note_fenced(_one(self._lost(), pick))

    def _note_fenced(self, call) -> None:
        with self.step():
            with self.database.write() as session:
                claims.note_fenced(session, call.claim, database_time(session))
            self.model.works[call.claim.key].fenced(call.claim)
        self.calls.remove(call)

    # What goes wrong.

    @precondition(lambda self: self.calls)
    @rule(pick=picks, how=answers)
    def come_back(self, pick, how) -> None:
        """A slow worker ends what it began."""
        call = _one(self.calls, pick)
        if call.answer is None:
            self._read(call, how)
        if not call.lost:
            self._write(call)
        if call.lost:
            self._note_fenced(call)

    @rule(worker=workers)
    def crash(self, worker) -> None:
        self.calls = [call for call in self.calls if call.worker != worker]

    @precondition(lambda self: self._anything_ahead())
    @rule(source=mostly_one)
    def crash_before_the_claim_is_committed(self, source) -> None:
        with self.step(), undone(self.database) as session:
            _claim(session, source, 3)

    @precondition(lambda self: self._answered())
    @rule(pick=picks)
    def crash_before_the_write_is_committed(self, pick) -> None:
        call = _one(self._answered(), pick)
        with self.step(), suppress(ClaimLost), undone(self.database) as session:
            _write(session, call)
        self.crash(call.worker)

    # Long ways that single steps would hardly find.

    @rule(
        source=mostly_one,
        how=answers,
        times=often,
        pause=st.sampled_from([*WAITS, SET_BACK]),
        asked=st.none() | picks,
    )
    def work(self, source, how, times, pause, asked) -> None:
        """Whole calls, one after another; perhaps somebody asks before each."""
        for _ in range(times):
            self.wait(pause)
            if asked is not None:
                self.ask(asked, Priority.LIVE, revive=False)
            self._work(WORKERS, source, how)

    def _work(self, worker, source, how) -> None:
        before = list(self.calls)
        self.claim(worker, source, 3, 0.5)
        for call in [call for call in self.calls if call not in before]:
            self._read(call, how)
            self._write(call)

    @precondition(lambda self: self._anything_ahead())
    @rule(source=mostly_one, times=st.integers(1, POISON_CRASHES), slow=sometimes)
    def crash_again_and_again(self, source, times, slow) -> None:
        """Whoever claims it dies of it; or is only slow, and comes back."""
        for _ in range(times):
            before = len(self.calls)
            self.claim(WORKERS, source, 3, 0.5)
            if len(self.calls) == before:
                return
            if not slow:
                self.crash(WORKERS)
            self.wait(OUTLIVED)

    # In the end.

    def teardown(self) -> None:
        """Once nothing fails any more, everything wanted is stored in its newest revision, or parked with a reason."""
        if not self.sound:
            return
        self.calls.clear()
        rounds = 0
        while any(work.due for work in self.model.works.values()):
            rounds += 1
            assert rounds <= ROUNDS, "it does not come to rest"
            self.wait(LONG)
            for source in (SOURCE, OTHER):
                self._work(0, source, FRESH)
        for work in self.model.works.values():
            assert work.token is None
            assert None not in work.ends
            assert work.park_reason or (work.seen >= work.told and work.retrieved == work.wanted)

    def _anything_ahead(self) -> bool:
        return any(work.due for work in self.model.works.values())

    def _key(self, which: int) -> ResourceKey:
        return self.keys[which % len(self.keys)]

    def _open(self) -> list[Call]:
        return [call for call in self.calls if call.answer is None]

    def _answered(self) -> list[Call]:
        return [call for call in self.calls if call.answer is not None and not call.lost]

    def _lost(self) -> list[Call]:
        return [call for call in self.calls if call.lost]


def _one(calls: list[Call], pick: int) -> Call:
    return calls[pick % len(calls)]


def _claim(session: Session, source: str, limit: int) -> tuple[bool, list[Claim] | None]:
    """As the pump claims: a held source is tried with one call, a throttled one not at all."""
    now = database_time(session)
    allowed = sources.state(session, source).may_call(now)
    if allowed == 0 or (allowed == 1 and not sources.postpone_probe(session, source, now + PROBE_AFTER)):
        return False, None
    limit = limit if allowed is None else 1
    return allowed == 1, resources.claim(session, source, limit=limit, lease=LEASE)


def _write(session: Session, call: Call) -> object:
    if isinstance(call.answer, Failure):
        return write_failure(session, call.claim, call.answer, call.situation)
    assert call.answer is not None
    found = reading_of(call.answer.verdict, updated=call.answer.updated)
    return write_document(session, call.claim, found, document(call.answer.content), call.situation)


@pytest.fixture
def machine(database):
    if database.is_sqlite:
        # No power fails here, and a thousand syncs would be most of the time.
        event.listen(database.writer, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))

    class OnThisDatabase(Claims):
        pass

    OnThisDatabase.database = database
    return OnThisDatabase


@pytest.mark.timeout(60 + EXAMPLES * SECONDS_AN_EXAMPLE)
def test_no_walk_leads_where_the_protocol_forbids(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


# Ways so long and narrow that they are shown rather than found.


def test_a_crash_is_not_taken_back_for_one_that_an_answer_has_forgiven(machine):
    walk = machine()
    walk.begin((DATED,), 0)
    walk.claim(0, SOURCE, 1, 0)
    walk.wait(OUTLIVED)
    walk.work(SOURCE, FRESH, 1, OUTLIVED, asked=None)
    walk.ask(0, Priority.LIVE, revive=False)
    walk.crash_again_and_again(SOURCE, 1, slow=False)
    walk.claim(1, SOURCE, 1, 0)
    assert walk.model.works[DATED].crashes == 1

    walk.come_back(0, FRESH)

    assert walk.model.works[DATED].crashes == 1
    walk.teardown()


def test_a_clock_that_was_set_back_makes_no_older_read_win(machine):
    walk = machine()
    walk.begin((SILENT,), 0)
    walk.work(SOURCE, FRESH, 1, timedelta(0), asked=None)
    walk.change(0, APPROVED, 1, tells=False)

    walk.work(SOURCE, FRESH, 1, SET_BACK, asked=0)

    assert walk.model.works[SILENT].ends == ["stored", "stale"]
    walk.teardown()
    assert walk.model.works[SILENT].ends == ["stored", "stale", "stored"]


def test_poison_parks_and_only_an_operator_revives_it(machine):
    walk = machine()
    walk.begin((DATED,), 0)
    walk.crash_again_and_again(SOURCE, POISON_CRASHES, slow=False)
    walk.work(SOURCE, FRESH, 1, OUTLIVED, asked=None)
    work = walk.model.works[DATED]
    assert (work.park_reason, len(work.ends)) == ("poison", POISON_CRASHES + 1)

    walk.notify([(0, 1)], looks_again=False)
    assert work.due is None
    walk.ask(0, Priority.LIVE, revive=True)

    walk.teardown()
    assert (work.park_reason, work.seen, work.crashes) == (None, 1, 0)


def test_many_notifications_cost_one_call_and_one_in_the_middle_costs_one_more(machine):
    walk = machine()
    walk.begin((DATED,), 0)
    for number in range(1, 6):
        walk.notify([(0, number)] * 2, looks_again=True)
    walk.claim(0, SOURCE, 1, 0)
    walk.read(0, FRESH)
    walk.change(0, APPROVED, 1, tells=True)
    walk.write(0, word_lost=False)

    walk.teardown()

    assert walk.model.works[DATED].ends == ["stored", "stored"]
