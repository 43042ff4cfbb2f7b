"""Replays: what is done again, which things are chosen for it, and how each of them ended."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from worker.domain.model import EXTERNAL_ID
from worker.domain.states import DeliveryState, FailureKind, ResourceState, Step
from worker.domain.strict_json import Json
from worker.errors import BadSelection

UNKNOWN = "unknown"
"""The step and fingerprint of work that was parked before lanes were noted."""

PARK_REASONS: Mapping[str, str] = {FailureKind.NOT_FOUND: "gone", FailureKind.CRASHED: "poison"}
"""Where the reason of parking has another name than the failure that led to it."""

MOST_IDS = 1000
"""Ids in one selection. It is kept with the replay, and sent as parameters of one statement."""

SLUG = re.compile(r"[a-z0-9-]{1,63}\Z")
FINGERPRINT = re.compile(r"[0-9a-f]{16}\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\Z")


class ReplayLevel(StrEnum):
    """Where a replay begins: at the stored version, at the provider, or at the stored delivery."""

    REPROJECT = "reproject"
    RETRIEVE = "retrieve"
    REINGEST = "reingest"


class ReplayState(StrEnum):
    """Where a replay stands. A cancelled one may still wait for what it had asked for."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class ItemState(StrEnum):
    """Where one item of a replay stands: not begun, asked for and not here yet, or ended with an outcome."""

    WAITING = "waiting"
    ASKED = "asked"
    DONE = "done"


class ItemOutcome(StrEnum):
    """How one item of a replay ended."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    STALE = "stale"
    PARKED = "parked"
    CHANGED = "changed"
    UPDATED = "updated"
    ACCEPTED = "accepted"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"
    ERASED = "erased"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


TROUBLE = frozenset({ItemOutcome.PARKED, ItemOutcome.STALE, ItemOutcome.UNREADABLE, ItemOutcome.FAILED})
"""The outcomes that a person should look at."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one item ended; `detail` says why, to operators, and holds nothing of a document."""

    outcome: ItemOutcome
    detail: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """Parked work that stopped in the same way: of one source, at one step, with one fingerprint.

    Deliveries that nobody could read are lanes of the step `receive`.
    """

    source: str
    step: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.source}/{self.step}/{self.fingerprint}"

    @classmethod
    def parse(cls, text: str) -> "Lane":
        """The lane of this name, such as `persona-live/call/0123456789abcdef`. Raises BadSelection."""
        source, _, rest = text.partition("/")
        step, _, fingerprint = rest.partition("/")
        known = step in {*Step, UNKNOWN} and (fingerprint == UNKNOWN or FINGERPRINT.match(fingerprint))
        if not SLUG.match(source) or not known:
            raise BadSelection("a lane is source/step/fingerprint, as `verisink lanes` shows it")
        return cls(source, step, fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which things to replay; all conditions must hold. The same for command line, API, and every level.

    `ids` are external ids; for `reingest` they choose deliveries that named such a resource, or are a delivery's own
    id. `error` is a failure kind, a reason of parking or a fingerprint, and so chooses parked work only. `state` is a
    ResourceState, or for `reingest` a DeliveryState. `parked` for `reingest` chooses what could not be read.

    `since` (included) and `until` (excluded) look at when parked work was parked, and otherwise at when the result
    last changed, or the resource became known if there is none yet; for `reingest` at when the delivery was received.

    Without any condition nothing is chosen, unless `everything` says that this is meant.
    """

    ids: tuple[str, ...] = ()
    source: str | None = None
    kind: str | None = None
    error: str | None = None
    lane: Lane | None = None
    state: str | None = None
    parked: bool = False
    since: datetime | None = None
    until: datetime | None = None
    everything: bool = False

    def checked(self, level: ReplayLevel) -> "Selection":
        """The selection, fit for `level`. Raises BadSelection with what to change."""
        if self == Selection():
            raise BadSelection("say which: an empty selection is refused unless `all` is said")
        self._check_ids()
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise BadSelection("since is not before until, so nothing can be between them")
        if level is ReplayLevel.REINGEST:
            return self._for_deliveries()
        return self._for_resources()

    @property
    def only_parked(self) -> bool:
        """Whether nothing but parked work can be chosen."""
        return self.parked or self.error is not None or self.lane is not None or self.state == ResourceState.PARKED

    def _check_ids(self) -> None:
        if len(self.ids) > MOST_IDS:
            raise BadSelection(f"more than {MOST_IDS} ids: select by source, kind or time instead")
        if not all(EXTERNAL_ID.match(one) or _UUID.match(one) for one in self.ids):
            raise BadSelection("an id is 1 to 128 letters, digits, dashes or underscores")

    def _for_resources(self) -> "Selection":
        _require(self.state, ResourceState, "state")
        if self.lane is not None and self.lane.step == Step.RECEIVE:
            raise BadSelection("this lane is of deliveries that nobody could read: replay it with level reingest")
        _require_error(self.error)
        if self.only_parked and self.state not in (None, ResourceState.PARKED):
            raise BadSelection(f"only parked work has an error or a lane, so state {self.state} leaves nothing")
        return self

    def _for_deliveries(self) -> "Selection":
        _require(self.state, DeliveryState, "state")
        if self.lane is not None and self.lane.step != Step.RECEIVE:
            raise BadSelection("this lane is of resources: replay it with level retrieve or reproject")
        if self.error is not None and not FINGERPRINT.match(self.error):
            raise BadSelection("for reingest, error is the fingerprint of a lane of the step receive")
        if self.only_parked and self.state not in (None, DeliveryState.UNREADABLE):
            raise BadSelection(f"only unreadable deliveries are parked, so state {self.state} leaves nothing")
        return replace(self, state=DeliveryState.UNREADABLE) if self.only_parked else self

    def to_json(self) -> dict[str, Json]:
        """The conditions that are set, as they are stored."""
        values: dict[str, Json] = {
            "ids": list(self.ids),
            "source": self.source,
            "kind": self.kind,
            "error": self.error,
            "lane": str(self.lane) if self.lane else None,
            "state": self.state,
            "parked": self.parked,
            "since": _iso(self.since),
            "until": _iso(self.until),
            "all": self.everything,
        }
        return {name: value for name, value in values.items() if value not in (None, False, [])}


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


def _require(value: str | None, known: type[StrEnum], name: str) -> None:
    if value is not None and value not in set(known):
        raise BadSelection(f"{name} is one of {', '.join(known)}")


def _require_error(error: str | None) -> None:
    known = {*FailureKind, *PARK_REASONS.values()}
    if error is not None and error not in known and not FINGERPRINT.match(error):
        raise BadSelection(f"error is a fingerprint, or one of {', '.join(sorted(known))}")
