"""One attempt written by itself, as the tests arrange it. Verisink writes attempts in groups."""

from datetime import timedelta

from worker.domain.model import Reading
from worker.domain.retry import Failure
from worker.domain.states import AttemptOutcome
from worker.errors import ClaimLost
from worker.pipeline.write import Brought, Landed, Situation, write
from worker.store import resources
from worker.store.bulk import write_together
from worker.store.claims import Claim
from worker.store.engine import Session
from worker.store.resources import Settled
from worker.store.results import Document


def write_document(
    session: Session, claim: Claim, reading: Reading, document: Document, situation: Situation
) -> AttemptOutcome:
    """Store what a retrieve brought back. Raises ClaimLost."""
    return _write(session, claim, (reading, document), situation)


def write_failure(session: Session, claim: Claim, failure: Failure, situation: Situation) -> AttemptOutcome:
    """Store why an attempt gave no document. Raises ClaimLost."""
    return _write(session, claim, failure, situation)


def settle(session: Session, claim: Claim) -> None:
    """End a claim with success. Raises ClaimLost."""
    now = claim.started_at
    step = resources.settling([Settled(claim, 1, now, None)], now, pause=timedelta(0))
    resources.require_all(1, *write_together(session, [step]))


def _write(session: Session, claim: Claim, brought: Brought, situation: Situation) -> AttemptOutcome:
    [outcome] = write(session, [Landed(claim, brought, situation)])
    if outcome is AttemptOutcome.FENCED:
        raise ClaimLost("the claim had ended")
    return outcome
