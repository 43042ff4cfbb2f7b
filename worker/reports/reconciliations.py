"""Reconciliations: how the last runs ended, and the share that only they found."""

from dataclasses import dataclass, field
from datetime import datetime

from worker.domain.reconcile import loss_rate
from worker.reports.build import each, one
from worker.store import reconciliations
from worker.store.engine import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """One run. `loss_rate` is `lost` of `announced`; None where nothing was listed that webhooks tell of."""

    id: int
    source: str
    since: datetime
    actor: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    calls: int
    listed: int
    missing: int
    outdated: int
    reread: int
    announced: int
    lost: int
    parked: int
    unreadable: int
    error: str | None
    loss_rate: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss_rate", loss_rate(self.lost, self.announced))


def reconciliation_list(session: Session, source: str | None = None, *, limit: int) -> tuple[Reconciliation, ...]:
    """The newest runs, of one source or of all, newest first."""
    return each(Reconciliation, reconciliations.recent(session, source, limit=limit))


def last_reconciliation(session: Session, source: str) -> Reconciliation | None:
    """The source's newest run."""
    return one(Reconciliation, reconciliations.last(session, source))
