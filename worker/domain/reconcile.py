"""What reconciling makes of one entry of a provider's list. Pure: no clock, no database; tested as a table."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.model import ResourceRef

LAG = timedelta(minutes=2)
"""What is younger may still be on its way as a webhook, so it is not called lost. Providers deliver within seconds and
try again within a minute; and the clocks of a provider and of our database differ by seconds, not by minutes."""

SOONEST_REREAD = timedelta(minutes=10)
"""What was read this recently is not read again: its webhook is the usual way, and it needs a moment."""

LATEST_REREAD = timedelta(days=1)
"""However long a result has said the same, people may come back to finish, and nobody may tell of it."""


class ReconcileState(StrEnum):
    """How a run stands. `stopped` is one that was ended before its time: the next one need not wait for its hour."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Judgement(StrEnum):
    """What one entry means for us."""

    KNOWN = "known"
    MISSING = "missing"
    OUTDATED = "outdated"
    PARKED = "parked"
    YOUNG = "young"
    UNASKED = "unasked"


@dataclass(frozen=True, slots=True)
class Found:
    """One entry: a resource, and what the list says of it.

    `changed_at` is when the newest thing that the entry tells of happened, by the provider's clock; `exact` says that
    it is the very time that the resource's document has as its updated time. `delivery_key` is that of the webhook
    which should have told. `status` is in the provider's words, where the document has the same. Not `announced` are
    resources that no webhook tells of; those which do not `add` only lead to what is known here already.
    """

    ref: ResourceRef
    changed_at: datetime | None = None
    exact: bool = False
    delivery_key: str | None = None
    status: str | None = None
    announced: bool = True
    adds: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known here of a resource. `open` is work that is not finished and not parked."""

    open: bool
    parked_at: datetime | None = None
    poison: bool = False
    read_started_at: datetime | None = None
    provider_updated_at: datetime | None = None
    provider_status: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run has counted so far; a resource counts once, however often it is listed.

    `announced` are those of the `listed` that webhooks tell of, and `lost` those of them that only this run has found,
    as missing or outdated. `unreadable` are entries that named nothing usable.
    """

    calls: int = 0
    listed: int = 0
    announced: int = 0
    missing: int = 0
    outdated: int = 0
    lost: int = 0
    parked: int = 0
    reread: int = 0
    unreadable: int = 0

    @property
    def loss_rate(self) -> float | None:
        """Found only by reconciling ÷ all; None where nothing was listed that webhooks tell of."""
        return loss_rate(self.lost, self.announced)


def loss_rate(lost: int, announced: int) -> float | None:
    """The share that was lost; None of nothing."""
    return lost / announced if announced else None


def judge(found: Found, standing: Standing | None, now: datetime, *, delivered: bool) -> Judgement:
    """What `found` means. `delivered` says whether the webhook with its delivery key has arrived."""
    if found.changed_at is not None and found.changed_at > now - LAG:
        return Judgement.YOUNG
    if standing is None:
        return Judgement.MISSING if found.adds else Judgement.UNASKED
    if standing.parked_at is not None:
        # Parked for a reason, which still holds unless something has happened since that nobody told of.
        news = found.changed_at is not None and found.changed_at > standing.parked_at and not delivered
        return Judgement.OUTDATED if news and not standing.poison else Judgement.PARKED
    if standing.open:
        return Judgement.KNOWN
    return Judgement.OUTDATED if _is_news(found, standing, delivered=delivered) else Judgement.KNOWN


def _is_news(found: Found, standing: Standing, *, delivered: bool) -> bool:
    if found.status is not None and standing.provider_status is not None and found.status != standing.provider_status:
        return True
    if found.changed_at is None:
        return False
    if found.exact and standing.provider_updated_at is not None:
        return found.changed_at > standing.provider_updated_at
    if not found.exact and (found.delivery_key is None or delivered):
        return False
    # Two clocks are compared. What was read a while after the change has seen it, and need not be read at each run.
    return standing.read_started_at is None or standing.read_started_at < found.changed_at + LAG


def is_due_for_reread(updated_at: datetime, retrieved_at: datetime, now: datetime) -> bool:
    """Whether an open result should be read again: the longer it has said the same, the more seldom."""
    pause = min(max((retrieved_at - updated_at) / 2, SOONEST_REREAD), LATEST_REREAD)
    return now - retrieved_at >= pause
