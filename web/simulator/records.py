"""What the world is made of: records, their changes, the calls that were received, and what a vendor must know.

A record's document holds only what lasts. What differs from read to read is added when it is served.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from web.simulator.ids import Ids
from worker.domain.strict_json import Json

JsonObject: TypeAlias = dict[str, Json]
Options: TypeAlias = Mapping[str, Json]

Action = Literal[
    "start", "complete", "review", "approve", "decline", "retry", "expire", "abandon", "reverse", "update", "redact"
]  # fmt: skip
"""What can happen to a record, in words that all providers share. Each vendor says which of them it knows."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One record's full name; `kind` is spelt as Verisink spells it."""

    provider: str
    kind: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One state of one thing at a provider. Records are replaced, never changed; treat the document as read-only."""

    ref: Ref
    document: JsonObject
    status: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Truth:
    """What a perfect copy would hold now. `digest` is None when the provider no longer has the record."""

    status: str | None
    digest: str | None
    revision: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One entry in the history of a record."""

    ref: Ref
    action: str
    truth: Truth


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a provider received. `status` is None until it is answered, and for ever if it never was."""

    provider: str
    method: str
    path: str
    external_id: str | None
    at: datetime
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Make:
    """What a builder may draw from."""

    ids: Ids
    rng: random.Random
    at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """One read of a record: `number` counts all reads, so that each one differs from the one before."""

    number: int
    at: datetime


class Vendor(Protocol):
    """One provider's documents: how they begin, how they change, and how they look when served."""

    def build(self, kind: str, make: Make, options: Options) -> tuple[str, JsonObject]:
        """The id and the document of a new record."""

    def apply(self, kind: str, document: JsonObject, action: Action, make: Make) -> None:
        """Change `document`, a private copy, in place. Raises ValueError for what cannot happen to it."""

    def adopt(self, document: JsonObject, child: Ref, child_document: JsonObject) -> None:
        """Make `document`, a private copy, name a new child."""

    def children(self, document: JsonObject) -> Sequence[tuple[str, str]]:
        """Kind and id of the records that are redacted together with this one."""

    def status(self, kind: str, document: JsonObject) -> str | None:
        """The provider's own status."""

    def serve(self, record: Record, reading: Reading) -> JsonObject:
        """The response body of one read."""

    def core(self, response: JsonObject) -> JsonObject:
        """The part of a response body that this record alone decides, without what differs from read to read."""


def section(document: JsonObject, name: str) -> JsonObject:
    """The object at `name`."""
    value = document[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not an object")
    return value


def items(document: JsonObject, name: str) -> list[Json]:
    """The list at `name`."""
    value = document[name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is not a list")
    return value


def iso(at: datetime) -> str:
    """The time as most of the providers write it: milliseconds and a Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def optional_text(options: Options, name: str) -> str | None:
    value = options.get(name)
    return value if isinstance(value, str) else None


def status_after(table: Mapping[str, str], reversal: Mapping[str, str], action: str, current: Json) -> str:
    """The status that `action` leads to. Raises ValueError if it leads nowhere from here."""
    if action == "reverse":
        reversed_status = reversal.get(str(current))
        if reversed_status is None:
            raise ValueError(f"a record that is {current} cannot be reversed")
        return reversed_status
    if action not in table:
        raise ValueError(f"{action}: this kind of record cannot do that")
    return table[action]


def map_strings(value: Json, change: Mapping[str, str]) -> Json:
    """A copy in which every URL that begins with a key of `change` got that key's value appended."""
    if isinstance(value, str):
        suffix = next((end for start, end in change.items() if value.startswith(start)), None)
        return value if suffix is None else value.partition("?")[0] + suffix
    if isinstance(value, dict):
        return {name: map_strings(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value


def without(value: Json, names: frozenset[str]) -> Json:
    """A copy without the members called `names`, at any depth, and without the queries of URLs."""
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        return value.partition("?")[0]
    if isinstance(value, dict):
        return {name: without(item, names) for name, item in value.items() if name not in names}
    if isinstance(value, list):
        return [without(item, names) for item in value]
    return value
