"""What is done to a provider's document: secrets out before it is kept, a digest that ignores volatile parts, and a
mask for readers who may not see personal data.

Providers declare paths. A path is a tuple of member names; `*` stands for any member or list item, and `**` for any
number of steps, none included. All paths are followed in one walk, because a path with `**` leads everywhere.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from worker.domain.strict_json import Json, canonical

Path = tuple[str, ...]

REDACTED = "[redacted]"

MASK = "***"
"""What stands where a value is hidden. Numbers and booleans give way to it too: a made-up one could be believed."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/#=+-]{0,127}\Z")
"""What statuses, codes, ids and times look like. Sentences, e-mail addresses, links and full names do not."""

_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
"""What names of members look like. An object with a person's address for a name is a list of persons."""

_URLS = ("https://", "http://")
_NESTED = (dict, list)
_NESTED_OR_FRACTION = (dict, list, float)


@dataclass(frozen=True, slots=True)
class Paths:
    """What a provider says of its documents: `secrets` are never stored, `volatile` parts change without meaning.

    `plain` parts say nothing about who the person is, and all else is personal. `plain_checks` says the same of the
    checks that this provider's documents read as, because some of their words are taken from personal parts.
    """

    secrets: tuple[Path, ...] = ()
    volatile: tuple[Path, ...] = ()
    plain: tuple[Path, ...] = ()
    plain_checks: tuple[Path, ...] = ()


def dotted(text: str, *prefixes: str) -> tuple[Path, ...]:
    """Paths that are written with dots and separated by blanks, below each of the prefixes (`""` for none)."""
    written = text.split()
    return tuple(tuple(f"{prefix}.{path}".strip(".").split(".")) for prefix in prefixes or ("",) for path in written)


def redact(document: Json, secrets: tuple[Path, ...]) -> tuple[Json, bool]:
    """`document` with each secret replaced, and whether there was one; the given one stays as it is. Null and empty
    secrets stay as they are."""
    kept = _redacted(document, _start(secrets)) if secrets else document
    return kept, kept is not document


def redact_object(document: dict[str, Json], secrets: tuple[Path, ...]) -> tuple[dict[str, Json], bool]:
    """`redact` for an object. No path is empty, so an object stays one."""
    kept, found = redact(document, secrets)
    return kept if isinstance(kept, dict) else {}, found


def may_hold(body: bytes, paths: tuple[Path, ...]) -> bool:
    """Whether the document that is written in `body` may hold what one of the paths ends at. False is sure; true means
    that it is worth a walk, which takes many times as long."""
    return b"\\u" in body or any(name in body for name in _last_names(paths))


@lru_cache(maxsize=256)
def _last_names(paths: tuple[Path, ...]) -> tuple[bytes, ...]:
    """The names of the members that paths end at, as they stand in a document. What may stand there in another way, or
    is any member, is written as what stands in every document: nothing."""
    lasts = [path[-1] for path in paths]
    return tuple(name.encode() if _MEMBER.match(name) else b"" for name in lasts)


def content_digest(document: Json, volatile: tuple[Path, ...]) -> str:
    """SHA-256 (hex) of what `document` says, without its volatile parts and without the queries of URLs.

    Signed file URLs carry a fresh token in their query at each read; the file that they name is the same.
    """
    exponents: list[float] = []
    meaning = _meaning(document, _start(volatile), exponents)
    return hashlib.sha256(canonical(meaning, exponents=bool(exponents))).hexdigest()


def mask(value: Json, plain: tuple[Path, ...]) -> Json:
    """`value` with everything hidden that no plain path leads to. Null and what is empty stay: they hold nothing.

    A plain path leads to one string, number or boolean; an object that turns up there is hidden. What no plain path
    leads into is hidden in one piece, because in a part that nobody knows even names and lengths may be personal.
    """
    return _masked(value, _start(plain))


def plain_word(text: str | None) -> str | None:
    """`text` if it looks like a status, a code, an id or a time; anything else is hidden."""
    return text if not text or _WORD.match(text) else MASK


class _Place:
    """Where a walk stands in all paths at once: what may still follow, for each of them."""

    __slots__ = ("ends", "leads_on", "named", "others", "rests")

    def __init__(self, rests: frozenset[Path]) -> None:
        self.rests = rests
        self.ends = () in rests
        self.leads_on = any(rests)
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
        named, others = place.named, place.others
        new: dict[str, Json] = {}
        for name, old in value.items():
            below = named.get(name, others)
            # Most of a document are texts and numbers that no path ends at. They are not worth a call each.
            if (below.ends or isinstance(old, _NESTED)) and (item := _redacted(old, below)) is not old:
                new[name] = item
        return {**value, **new} if new else value
    if isinstance(value, list):
        items = [_redacted(item, place.others) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _meaning(value: Json, place: _Place, exponents: list[float]) -> Json:
    """The value without what ends a path. A part that is absent and one that is left out are the same. What is left of
    numbers that are written with an exponent is noted."""
    # What was parsed is exactly of these types, and to ask for the type takes less than to ask whether it is one.
    if type(value) is dict:
        return _meaning_of_members(value, place, exponents)
    if type(value) is list:
        return [] if place.others.ends else [_meaning(item, place.others, exponents) for item in value]
    if type(value) is str:
        return value.partition("?")[0] if value.startswith(_URLS) else value
    if type(value) is float and "e" in repr(value):
        exponents.append(value)
    return value


def _meaning_of_members(members: dict[str, Json], place: _Place, exponents: list[float]) -> dict[str, Json]:
    named, others = place.named, place.others
    kept: dict[str, Json] = {}
    for name, item in members.items():
        below = named.get(name, others)
        if below.ends:
            continue
        # Texts that are no URLs, whole numbers and truth values are most of a document, and not worth a call each.
        if item.startswith(_URLS) if type(item) is str else type(item) in _NESTED_OR_FRACTION:
            item = _meaning(item, below, exponents)
        kept[name] = item
    return kept


def _masked(value: Json, place: _Place) -> Json:
    if not value and not isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return _masked_object(value, place) if place.leads_on else MASK
    if isinstance(value, list):
        return [_masked(item, place.others) for item in value] if place.leads_on else MASK
    if not place.ends:
        return MASK
    return plain_word(value) if isinstance(value, str) else value


def _masked_object(value: dict[str, Json], place: _Place) -> Json:
    if any(name not in place.named and not _MEMBER.match(name) for name in value):
        return MASK
    return {name: _masked(item, place.below(name)) for name, item in value.items()}
