"""A history that the tests know, written into a database as the pipeline writes it, and then dated back."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from tests.support.results import fail, key, number_events, reading, store
from worker.domain.model import Check, ResourceKey, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.store.engine import Database, Session
from worker.store.tables import events, resources, results, versions

START = datetime(2026, 3, 1, tzinfo=UTC)
"""A Sunday, so that weeks begin within the period."""

DAYS = 21
SINCE, UNTIL = START + timedelta(days=7), START + timedelta(days=15)
"""The period that is asked about; what lies before and behind it must not be counted."""

VERDICTS = [
    Verdict(Stage.CREATED, Outcome.NONE, False),
    Verdict(Stage.IN_REVIEW, Outcome.NONE, False),
    Verdict(Stage.UNMAPPED, Outcome.NONE, False),
    *[Verdict(Stage.DECIDED, Outcome.APPROVED, True)] * 3,
    *[Verdict(Stage.DECIDED, Outcome.REJECTED, True)] * 3,
    Verdict(Stage.DECIDED, Outcome.REJECTED, False),
    Verdict(Stage.DECIDED, Outcome.RESUBMIT, True),
    Verdict(Stage.ABANDONED, Outcome.NONE, True),
]

NAMES = ("document", "liveness", "selfie")
PLACES = (("persona-live", "inquiry"), ("persona-live", "verification/selfie"), ("gu1-test", "kyc-validation"))
PROVIDERS: Mapping[str, str] = {"persona-live": "persona", "gu1-test": "gu1"}


@dataclass(frozen=True)
class Told:
    """What the provider said at a time, which made a version."""

    at: datetime
    verdict: Verdict
    checks: tuple[Check, ...]
    completed_at: datetime | None


@dataclass(frozen=True)
class Known:
    """One resource and all that was ever told of it."""

    key: ResourceKey
    reference: str | None
    created_at: datetime | None
    told: tuple[Told, ...]

    @property
    def name(self) -> tuple[str, str, str]:
        return self.key.source, self.key.ref.kind, self.key.ref.external_id

    @property
    def provider(self) -> str:
        return PROVIDERS[self.key.source]

    @property
    def now(self) -> Told:
        return self.told[-1]

    def decisions(self) -> Iterator[Told]:
        """When it was approved or rejected, and nothing else."""
        return (told for told in self.told if told.verdict.outcome in (Outcome.APPROVED, Outcome.REJECTED))

    def declined_at(self) -> datetime | None:
        """Since when it is rejected; None if it is not."""
        since = None
        for told in self.told:
            rejected = told.verdict.outcome is Outcome.REJECTED
            since = (since or told.at) if rejected else None
        return since


def made_up(count: int, seed: int) -> list[Known]:
    """Histories at random, the same for the same seed, and a few that lie exactly on the edges of the period."""
    chance = random.Random(seed)
    known = [_one(chance, number) for number in range(count)]
    rejected = Verdict(Stage.DECIDED, Outcome.REJECTED, True)
    for number, at in enumerate((SINCE, UNTIL, SINCE - timedelta(microseconds=1), UNTIL - timedelta(microseconds=1))):
        told = Told(at, rejected, (Check("selfie", CheckOutcome.FAILED, reasons=("blurred",)),), at)
        known.append(Known(key(f"edge_{number}", "inquiry"), "edge", at - timedelta(minutes=1), (told,)))
    return [*known, _turned_round(), _declined_twice()]


def _turned_round() -> Known:
    """Approved, reviewed, and then rejected, which is no event `reversed`."""
    approved, review, rejected = VERDICTS[3], VERDICTS[1], VERDICTS[6]
    told = tuple(
        Told(SINCE + timedelta(days=day), verdict, (), None) for day, verdict in enumerate((approved, review, rejected))
    )
    return Known(key("turned", "inquiry"), None, SINCE, told)


def _declined_twice() -> Known:
    """Rejected within the period, and read again with the same verdict and other reasons after it."""
    told = tuple(
        Told(at, VERDICTS[6], (Check("selfie", CheckOutcome.FAILED, reasons=(reason,)),), at)
        for at, reason in ((SINCE + timedelta(days=1), "blurred"), (UNTIL + timedelta(days=1), "occluded"))
    )
    return Known(key("twice", "inquiry"), None, SINCE, told)


def _one(chance: random.Random, number: int) -> Known:
    source, kind = chance.choice(PLACES)
    begun = START + timedelta(seconds=chance.uniform(0, DAYS * 86400))
    moments = sorted(begun + timedelta(seconds=chance.uniform(1, 5 * 86400)) for _ in range(chance.randint(1, 4)))
    told = tuple(_told(chance, moment) for moment in moments)
    created = chance.choice([begun, begun, None])
    return Known(key(f"id_{number}", kind, source), chance.choice(["ada", "grace", None]), created, told)


def _told(chance: random.Random, at: datetime) -> Told:
    checks = tuple(
        Check(
            name, chance.choice(list(CheckOutcome)), reasons=tuple(chance.sample(["blurred", "the name's ünlike"], 1))
        )
        for name in chance.sample(NAMES, chance.randint(0, 3))
    )
    verdict = chance.choice(VERDICTS)
    done = verdict.stage is Stage.DECIDED and chance.random() < 0.8
    return Told(at, verdict, checks, at - timedelta(seconds=chance.uniform(0, 90)) if done else None)


def write(database: Database, known: Sequence[Known]) -> None:
    """Writes the histories in the order of their times, and dates each version back to its own."""
    steps = sorted(((told.at, one, number) for one in known for number, told in enumerate(one.told, 1)), key=_by_time)
    for _, one, number in steps:
        told = one.told[number - 1]
        found = replace(
            reading(told.verdict, checks=told.checks, reference=one.reference),
            provider_created_at=one.created_at,
            completed_at=told.completed_at,
        )
        store(database, one.key, found)
    # Events without a verdict are among the others in any real log.
    fail(database, next(one for one in known if one.declined_at()).key)
    while number_events(database):
        pass
    with database.write() as session:
        for one in known:
            _date_back(session, one)


def _by_time(step: tuple[datetime, Known, int]) -> tuple[datetime, str]:
    return step[0], step[1].key.ref.external_id


def _date_back(session: Session, one: Known) -> None:
    source, kind, external_id = one.name
    named = (resources.c.source == source, resources.c.kind == kind, resources.c.external_id == external_id)
    [mine] = session.execute(
        update(resources).where(*named).values(created_at=one.told[0].at).returning(resources.c.id)
    )
    now = {"updated_at": one.now.at, "retrieved_at": one.now.at}
    session.execute(update(results).where(results.c.resource_id == mine.id).values(**now))
    for number, told in enumerate(one.told, 1):
        this = (versions.c.resource_id == mine.id, versions.c.number == number)
        session.execute(update(versions).where(*this).values(retrieved_at=told.at))
        told_of = (events.c.source == source, events.c.kind == kind, events.c.external_id == external_id)
        session.execute(update(events).where(*told_of, events.c.version == number).values(occurred_at=told.at))
