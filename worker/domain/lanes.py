"""Lanes: parked work that stopped in the same way is shown, counted and replayed together."""

import hashlib
import re

from worker.domain.retry import Failure
from worker.domain.states import FailureKind, Step

_STEPS = {
    FailureKind.UNREADABLE: Step.READ,
    FailureKind.STALE: Step.READ,
    FailureKind.BUG: Step.WRITE,
    FailureKind.CRASHED: Step.WRITE,
}
_VARYING = re.compile(r"0x[0-9a-f]+|\d+")


def step(kind: FailureKind) -> Step:
    """Where work with this failure stopped. Whatever is not ours or the document's is the provider's."""
    return _STEPS.get(kind, Step.CALL)


def fingerprint(failure: Failure) -> str:
    """Sixteen hex digits, equal for failures that look alike: their kind, HTTP status, and words without numbers."""
    words = _VARYING.sub("#", failure.detail)
    said = f"{failure.kind}\x1f{failure.http_status}\x1f{words}"
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
