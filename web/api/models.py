"""What the API takes and gives, as types. Answers are described by these, and made of the rows of the reports."""

import re
from datetime import datetime
from typing import Annotated, ClassVar, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from worker.domain.model import EXTERNAL_ID, KIND
from worker.domain.states import Cause, CheckOutcome, EventType, ExpectationState, Outcome, ResourceState, Stage
from worker.domain.times import read_time

MOST = 200
LONGEST_WAIT = 30
"""Seconds: less than the 60 after which common proxies take a silent server for a dead one."""

LARGEST_INTEGER = 2**31 - 1
LARGEST_SEQUENCE = 2**63 - 1


def _time(value: object) -> datetime:
    found = read_time(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be an ISO 8601 time such as 2026-01-31T12:00:00Z; a + in a URL is written %2B")
    return found


def _matching(pattern: re.Pattern[str], rule: str) -> AfterValidator:
    """pydantic searches for a pattern, and would find it behind anything; these describe whole values."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _described(pattern: re.Pattern[str], longest: int) -> WithJsonSchema:
    """The same for whoever reads the description: anchored, because JSON Schema searches too."""
    text = pattern.pattern.removesuffix(r"\Z")
    return WithJsonSchema({"type": "string", "pattern": f"^{text}$", "minLength": 1, "maxLength": longest})


SLUG = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

Slug: TypeAlias = Annotated[
    str, _matching(SLUG, "must be lower-case letters, digits and dashes, at most 63"), _described(SLUG, 63)
]
Kind: TypeAlias = Annotated[
    str, _matching(KIND, "must be one to three lower-case words joined by slashes"), _described(KIND, 194)
]
ExternalId: TypeAlias = Annotated[
    str, _matching(EXTERNAL_ID, "must be 1 to 128 letters, digits, dashes, underscores"), _described(EXTERNAL_ID, 128)
]
Time: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_time, json_schema_input_type=Annotated[str, Field(json_schema_extra={"format": "date-time"})]),
]


class _Query(BaseModel):
    """What stands behind the `?`. An unknown name is a mistake, because its filter would silently not be applied."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NoQuery(_Query):
    """Nothing may stand behind the `?`."""


class Place(_Query):
    """What the parts of a path name: a `noun`."""

    noun: ClassVar[str]


class SourcePlace(Place):
    """The source that a path names."""

    noun = "source"
    source: Slug


class ResultPlace(Place):
    """The result that a path names. A `kind` may hold slashes, written as they are or as `%2F`."""

    noun = "result"
    source: Slug
    kind: Kind
    external_id: ExternalId


class ExpectationPlace(Place):
    """The expected result that a path names."""

    noun = "expectation"
    expectation_id: UUID


class ResultsQuery(_Query):
    """The filters and the paging of the list of results.

    `updated_after` narrows a list; it is no way to follow changes, which may be committed with an earlier time than one
    already seen. For that there is `/events?after=`.
    """

    source: Slug | None = None
    provider: Slug | None = None
    kind: Kind | None = None
    stage: Stage | None = None
    outcome: Outcome | None = None
    reference: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    updated_after: Time | None = None
    limit: int = Field(50, ge=1, le=MOST)
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None


class ResultQuery(_Query):
    """Which version of a result; by default the current one."""

    version: int | None = Field(None, ge=1, le=LARGEST_INTEGER)
    as_of: Time | None = None


class VersionsQuery(_Query):
    """The paging of a history; the cursor is the number of the last version that was seen."""

    cursor: int = Field(0, ge=0, le=LARGEST_INTEGER)
    limit: int = Field(50, ge=1, le=MOST)


class EventsQuery(_Query):
    """Where to read on in the event log, which events are wanted, and how many seconds to wait if there is none."""

    after: int = Field(0, ge=0, le=LARGEST_SEQUENCE)
    type: EventType | None = None
    source: Slug | None = None
    kind: Kind | None = None
    limit: int = Field(50, ge=1, le=MOST)
    wait: int = Field(0, ge=0, le=LONGEST_WAIT)


class RetrievalRequest(_Query):
    """What to retrieve."""

    source: Slug
    kind: Kind
    external_id: ExternalId


Reason: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class HoldRequest(_Query):
    """Why a source or a sink is to be held."""

    reason: Reason


class ReleaseRequest(_Query):
    """Why a source or a sink is released, if anybody wants to know."""

    reason: Reason | None = None


class ExpectationRequest(_Query):
    """Which result is expected, by its id or by the reference of the person or case, and by when."""

    source: Slug
    kind: Kind
    external_id: ExternalId | None = None
    reference: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    deadline: Time


class ExpectationsQuery(_Query):
    """The filters and the paging of the list of expected results."""

    source: Slug | None = None
    state: ExpectationState | None = None
    limit: int = Field(50, ge=1, le=MOST)
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Result(_Answer):
    """One line of the list of results."""

    source: str
    provider: str
    environment: str
    kind: str
    external_id: str
    reference: str | None
    stage: Stage | str
    outcome: Outcome | str
    final: bool
    derived: bool | None
    provider_status: str | None
    score: float | None
    version: int
    mapping_version: int
    provider_created_at: datetime | None
    provider_updated_at: datetime | None
    completed_at: datetime | None
    first_seen_at: datetime
    retrieved_at: datetime
    updated_at: datetime


class Check(_Answer):
    """One named test inside a result."""

    name: str
    outcome: CheckOutcome | str
    provider_outcome: str | None
    score: float | None
    threshold: float | None
    required: bool | None
    reasons: list[str]
    details: dict[str, object]


class ResultDetail(Result):
    """One result, whole. `document` is null once it was erased."""

    checks: list[Check]
    document: object


class Version(_Answer):
    """One line of a result's history."""

    version: int
    stage: Stage | str
    outcome: Outcome | str
    final: bool
    provider_status: str | None
    mapping_version: int
    api_version: str | None
    retrieved_at: datetime
    cause: Cause | str
    document_sha256: str
    redacted: bool
    erased_at: datetime | None


class Event(_Answer):
    """One event of the log."""

    sequence: int
    id: str
    type: EventType | str
    source: str
    kind: str | None
    external_id: str | None
    version: int | None
    stage: Stage | str | None
    outcome: Outcome | str | None
    occurred_at: datetime
    data: dict[str, object]


class Results(_Answer):
    """A page of results. `next_cursor` is null at the end of the list, and only there: with a filter a page may hold
    fewer than `limit` items, or none, because it looks at so many results and no more."""

    items: list[Result]
    next_cursor: str | None


class Versions(_Answer):
    """A page of a history. `next_cursor` is null at its end."""

    items: list[Version]
    next_cursor: str | None


class Events(_Answer):
    """A part of the event log. `next_after` is where to read on, also when nothing was there: with a filter it is
    behind all that was passed over, and a page without items is not always the end."""

    items: list[Event]
    next_after: int


class Retrieval(_Answer):
    """What was accepted, where its result will be, and where the resource stands now."""

    source: str
    kind: str
    external_id: str
    state: ResourceState | str
    result: str


class Source(_Answer):
    """How one source stands. `state` is `active`, `held` or `throttled`."""

    source: str
    configured: bool
    state: str
    reason: str | None
    since: datetime | None
    until: datetime | None
    waiting: int
    claimed: int
    parked: int
    oldest_seconds: float | None


class Sources(_Answer):
    """Every source."""

    items: list[Source]


class Held(_Answer):
    """A source after it was to be held, and whether that changed anything."""

    changed: bool
    source: Source


class Released(Held):
    """A source after it was to be released, and what that ended."""

    hold_ended: bool
    throttle_ended: bool


class Expectation(_Answer):
    """One expected result. `found` is the id of the resource that was found for it, once it was looked for."""

    id: UUID
    source: str
    kind: str
    external_id: str | None
    reference: str | None
    deadline: datetime
    state: ExpectationState | str
    actor: str
    created_at: datetime
    tried_at: datetime | None
    closed_at: datetime | None
    found: str | None


class Expectations(_Answer):
    """A page of expected results. `next_cursor` is null at the end of the list, and only there: with a `source` a page
    may hold fewer than `limit` items, or none."""

    items: list[Expectation]
    next_cursor: str | None
