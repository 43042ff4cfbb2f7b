"""The value objects that the layers hand to each other. Frozen, and nothing here knows SQL, HTTP or a vendor."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.domain.documents import plain_word
from worker.domain.states import CheckOutcome, Outcome, Stage

EXTERNAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
"""Ids become path segments of URLs that carry our credentials, so nothing that could steer a path is an id."""

KIND = re.compile(r"[a-z0-9][a-z0-9-]{0,63}(?:/[a-z0-9][a-z0-9-]{0,63}){0,2}\Z")
"""Kinds are ours or a provider's resource type; a slash may join two words, never a dot or a percent sign."""


LONGEST_DRIFT = 80
"""Characters. The longest code that a vendor documents has 48."""


@dataclass(frozen=True, slots=True, order=True)
class ResourceRef:
    """One thing at a provider, within a source. Raises ValueError for an id or kind that could steer a URL."""

    kind: str
    external_id: str

    def __post_init__(self) -> None:
        if not KIND.match(self.kind):
            raise ValueError("a kind is one to three lower-case words joined by slashes")
        if not EXTERNAL_ID.match(self.external_id):
            raise ValueError("an id is 1 to 128 letters, digits, dashes or underscores")


@dataclass(frozen=True, slots=True, order=True)
class ResourceKey:
    """A resource's full name: the source that it belongs to, its kind and its id there."""

    source: str
    ref: ResourceRef


@dataclass(frozen=True, slots=True)
class Notification:
    """What a delivery says, parsed.

    `delivery_key` makes a delivery unique within its source: the provider's event id, or a digest of the body where
    there is none; then `repeat_looks_again` is true, because equal bodies may tell of different changes.
    `resources` is empty when there is nothing to retrieve, and `ignored_because` says why.
    """

    delivery_key: str
    event_type: str | None
    resources: tuple[ResourceRef, ...] = ()
    event_id: str | None = None
    occurred_at: datetime | None = None
    repeat_looks_again: bool = False
    ignored_because: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One named test inside a result. `score` and `threshold` are in the provider's own units."""

    name: str
    outcome: CheckOutcome
    provider_outcome: str | None = None
    score: float | None = None
    threshold: float | None = None
    required: bool | None = None
    reasons: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a result says: how far, what was decided, and whether the provider calls that the last word."""

    stage: Stage
    outcome: Outcome
    final: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """A value that the mapping does not know: the provider has changed, and a person should look."""

    field: str
    value: str

    @classmethod
    def seen(cls, field: str, value: str | None, *, missing: str = "missing") -> "Drift":
        """Drift in what a provider wrote. Only what looks like a code is quoted: whoever shifts a field may put a
        person's name or address where a status belongs, and operators look at drift who look at nobody's documents."""
        return cls(field, plain_word(value[:LONGEST_DRIFT]) or missing if value else missing)


@dataclass(frozen=True, slots=True)
class Reading:
    """The normalised reading of one document. `derived` marks a verdict that the provider itself did not state."""

    verdict: Verdict
    provider_status: str | None = None
    derived: bool = False
    score: float | None = None
    reference: str | None = None
    provider_created_at: datetime | None = None
    provider_updated_at: datetime | None = None
    completed_at: datetime | None = None
    checks: tuple[Check, ...] = ()
    related: tuple[ResourceRef, ...] = ()
    drift: tuple[Drift, ...] = ()
