"""What a reconciliation has found so far: each resource is counted once, however many entries name it."""

from collections import Counter
from dataclasses import dataclass

from worker.domain.model import ResourceRef
from worker.domain.reconcile import Found, Judgement, Tally

MOST_SHOWN = 100
"""How many of the resources that were found a report names."""

_LISTED, _ANNOUNCED, _TAKEN, _PARKED = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Finding:
    """A resource that is missing or outdated here."""

    judgement: Judgement
    kind: str
    external_id: str


class Count:
    """The counters of one run. It remembers resources by their hashes, because a list may hold a million."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._seen: dict[int, int] = {}
        self._findings: list[Finding] = []

    @property
    def tally(self) -> Tally:
        """The numbers as they are now."""
        return Tally(**self._numbers)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The first hundred resources that were taken."""
        return tuple(self._findings)

    def add(self, name: str, number: int = 1) -> None:
        """Count what is no entry of a list."""
        self._numbers[name] += number

    def take(self, found: Found, judgement: Judgement) -> bool:
        """Count an entry; whether its resource is to be retrieved, which is said once."""
        if judgement in (Judgement.YOUNG, Judgement.UNASKED):
            return False
        self._once(found.ref, _LISTED, "listed")
        if found.announced:
            self._once(found.ref, _ANNOUNCED, "announced")
        if judgement is Judgement.PARKED:
            self._once(found.ref, _PARKED, "parked")
        if judgement not in (Judgement.MISSING, Judgement.OUTDATED) or not self._once(found.ref, _TAKEN, judgement):
            return False
        self._numbers["lost"] += found.announced
        if len(self._findings) < MOST_SHOWN:
            self._findings.append(Finding(judgement, found.ref.kind, found.ref.external_id))
        return True

    def has_taken(self, ref: ResourceRef) -> bool:
        """Whether this resource is to be retrieved already."""
        return bool(self._seen.get(hash(ref), 0) & _TAKEN)

    def _once(self, ref: ResourceRef, flag: int, name: str) -> bool:
        key = hash(ref)
        seen = self._seen.get(key, 0)
        if seen & flag:
            return False
        self._seen[key] = seen | flag
        self._numbers[name] += 1
        return True
