"""What is done to a provider's document before it is kept: secrets out, and a digest that ignores volatile parts.

Providers declare paths. A path is a tuple of member names; `*` stands for any member or list item, and `**` for any
number of steps, none included. All paths are followed in one walk, because a path with `**` leads everywhere.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from worker.domain.strict_json import Json, canonical

Path = tuple[str, ...]

REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class Paths:
    """What a provider says of its documents: `secrets` are never stored, `volatile` parts change without meaning."""

    secrets: tuple[Path, ...] = ()
    volatile: tuple[Path, ...] = ()


def redact(document: Json, secrets: tuple[Path, ...]) -> tuple[Json, bool]:
    """`document` with each secret replaced, and whether there was one; the given one stays as it is. Null and empty
    secrets stay as they are."""
    kept = _redacted(document, _start(secrets))
    return kept, kept is not document


def redact_object(document: dict[str, Json], secrets: tuple[Path, ...]) -> tuple[dict[str, Json], bool]:
    """`redact` for an object. No path is empty, so an object stays one."""
    kept, found = redact(document, secrets)
    return kept if isinstance(kept, dict) else {}, found


def content_digest(document: Json, volatile: tuple[Path, ...]) -> str:
    """SHA-256 (hex) of what `document` says, without its volatile parts and without the queries of URLs.

    Signed file URLs carry a fresh token in their query at each read; the file that they name is the same.
    """
    return hashlib.sha256(canonical(_meaning(document, _start(volatile)))).hexdigest()


class _Place:
    """Where a walk stands in all paths at once: what may still follow, for each of them."""

    __slots__ = ("ends", "named", "others", "rests")

    def __init__(self, rests: frozenset[Path]) -> None:
        self.rests = rests
        self.ends = () in rests
        self.named: dict[str, _Place] = {}
        self.others: _Place = self

    def below(self, name: str) -> "_Place":
        """The place of a member; items of lists have no name."""
        return self.named.get(name, self.others)


@lru_cache(maxsize=256)
def _start(paths: tuple[Path, ...]) -> _Place:
    """The place of a whole document. All that can be reached from there is worked out once."""
    places: dict[frozenset[Path], _Place] = {}

    def reach(rests: frozenset[Path]) -> _Place:
        place = places.get(rests)
        if place is None:
            place = places[rests] = _Place(rests)
            names = {rest[0] for rest in rests if rest} - {"*", "**"}
            place.others = reach(_after(rests, None))
            place.named = {name: reach(_after(rests, name)) for name in names}
        return place

    return reach(frozenset(rest for path in paths for rest in _alternatives(path)))


def _after(rests: frozenset[Path], name: str | None) -> frozenset[Path]:
    """What may follow after a step to the member `name`, or to one that no path names."""
    following = {rest if rest[0] == "**" else rest[1:] for rest in rests if rest and rest[0] in ("*", "**", name)}
    return frozenset(rest for path in following for rest in _alternatives(path))


def _alternatives(path: Path) -> Iterator[Path]:
    """The path itself, and what it is when its `**` stands for no step."""
    yield path
    if path[:1] == ("**",):
        yield from _alternatives(path[1:])


def _redacted(value: Json, place: _Place) -> Json:
    if place.ends:
        return value if value in (None, "", REDACTED) else REDACTED
    if isinstance(value, dict):
        new = {name: item for name, old in value.items() if (item := _redacted(old, place.below(name))) is not old}
        return {**value, **new} if new else value
    if isinstance(value, list):
        items = [_redacted(item, place.others) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _meaning(value: Json, place: _Place) -> Json:
    """The value without what ends a path. A part that is absent and one that is left out are the same."""
    if isinstance(value, str):
        return value.partition("?")[0] if value.startswith(("https://", "http://")) else value
    if isinstance(value, dict):
        return {name: _meaning(item, below) for name, item in value.items() if not (below := place.below(name)).ends}
    if isinstance(value, list):
        return [] if place.others.ends else [_meaning(item, place.others) for item in value]
    return value
