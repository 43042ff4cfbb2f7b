"""What the API takes and gives about replays and lanes, as types."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from web.api.models import LARGEST_INTEGER, MOST, ExternalId, Kind, Place, Slug, Time
from worker.domain.replays import MOST_IDS, ItemOutcome, ItemState, ReplayLevel, ReplayState


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ReplayPlace(Place):
    """The replay that a path names."""

    noun = "replay"
    replay_id: UUID


class ReplayRequest(_Asked):
    """What to replay, and why. All conditions must hold; without any, `all` must say that this is meant.

    With `plan`, nothing is changed, and the answer says what the replay would come to.
    """

    level: ReplayLevel = ReplayLevel.RETRIEVE
    ids: tuple[ExternalId, ...] = Field((), max_length=MOST_IDS)
    source: Slug | None = None
    kind: Kind | None = None
    error: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    lane: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    state: Annotated[str, StringConstraints(min_length=1, max_length=16)] | None = None
    parked: StrictBool = False
    since: Time | None = None
    until: Time | None = None
    all: StrictBool = False
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] | None = None
    plan: StrictBool = False


class ReplaysQuery(_Asked):
    """How many of the newest replays."""

    limit: int = Field(50, ge=1, le=MOST)


class ItemsQuery(_Asked):
    """The filter and the paging of a replay's items; the cursor is the position of the last one that was seen."""

    outcome: ItemOutcome | None = None
    cursor: int = Field(0, ge=0, le=LARGEST_INTEGER)
    limit: int = Field(50, ge=1, le=MOST)


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class SourceShare(_Answer):
    """One source's part of a planned replay."""

    source: str
    configured: bool
    count: int
    calls: int
    seconds: float


class Change(_Answer):
    """How many verdicts, or states of deliveries, would change in one way."""

    before: str
    after: str
    count: int


class ReplayPlan(_Answer):
    """What a replay would come to. `changes` and `outcomes` are of the `examined` items."""

    level: ReplayLevel
    selection: dict[str, object]
    count: int
    calls: int
    seconds: float
    sources: list[SourceShare]
    outcomes: dict[str, int]
    changes: list[Change]
    examined: int
    complete: bool


class Replay(_Answer):
    """A replay, and how far it is."""

    id: UUID
    level: ReplayLevel | str
    selection: dict[str, object]
    actor: str
    reason: str | None
    state: ReplayState | str
    created_at: datetime
    finished_at: datetime | None
    total: int
    done: int
    asked: int
    waiting: int
    outcomes: dict[str, int]


class Replays(_Answer):
    """The newest replays."""

    items: list[Replay]


class Item(_Answer):
    """One item of a replay: a resource, or for `reingest` a delivery."""

    position: int
    source: str
    kind: str | None
    external_id: str | None
    delivery_id: UUID | None
    event_type: str | None
    state: ItemState | str
    outcome: ItemOutcome | str | None
    detail: str | None
    finished_at: datetime | None


class Items(_Answer):
    """A page of a replay's items. `next_cursor` is null at the end of the list."""

    items: list[Item]
    next_cursor: str | None


class Lane(_Answer):
    """Parked work that stopped in the same way; `lane` selects it in a replay, whose level is `level`."""

    lane: str
    source: str
    step: str
    fingerprint: str
    level: ReplayLevel | str
    count: int
    first_at: datetime
    last_at: datetime
    sample: str | None


class Lanes(_Answer):
    """All lanes, the largest first."""

    items: list[Lane]
