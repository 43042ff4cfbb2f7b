"""What is done to a provider's document before it is kept: secrets out, and a digest that ignores volatile parts.

Providers declare paths. A path is a tuple of member names; `*` stands for any member or list item, and `**` for any
number of steps, none included.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.strict_json import Json, canonical

Path = tuple[str, ...]
Change = Callable[[Json], Json]

REDACTED = "[redacted]"

_GONE: Json = "[gone]"
"""What a volatile part is replaced with, to be recognised by identity and left out: absent and present are the same."""


@dataclass(frozen=True, slots=True)
class Paths:
    """What a provider says of its documents: `secrets` are never stored, `volatile` parts change without meaning."""

    secrets: tuple[Path, ...] = ()
    volatile: tuple[Path, ...] = ()


def redact(document: Json, secrets: tuple[Path, ...]) -> tuple[Json, bool]:
    """A copy of `document` with each secret replaced, and whether there was one. Null and empty secrets stay as they
    are."""
    found = False

    def replace(value: Json) -> Json:
        nonlocal found
        if value in (None, "", REDACTED):
            return value
        found = True
        return REDACTED

    for path in secrets:
        document = _rewrite(document, path, replace)
    return document, found


def redact_object(document: dict[str, Json], secrets: tuple[Path, ...]) -> tuple[dict[str, Json], bool]:
    """`redact` for an object. No path is empty, so an object stays one."""
    kept, found = redact(document, secrets)
    return kept if isinstance(kept, dict) else {}, found


def content_digest(document: Json, volatile: tuple[Path, ...]) -> str:
    """SHA-256 (hex) of what `document` says, without its volatile parts and without the queries of URLs.

    Signed file URLs carry a fresh token in their query at each read; the file that they name is the same.
    """
    for path in volatile:
        document = _rewrite(document, path, lambda _: _GONE)
    return hashlib.sha256(canonical(_without_url_queries(document))).hexdigest()


def _rewrite(value: Json, path: Path, change: Change) -> Json:
    if not path:
        return change(value)
    head, rest = path[0], path[1:]
    if head == "**":
        value = _rewrite(value, rest, change)
        return _each(value, lambda item: _rewrite(item, path, change))
    if head == "*":
        return _each(value, lambda item: _rewrite(item, rest, change))
    if isinstance(value, dict) and head in value:
        return _present({**value, head: _rewrite(value[head], rest, change)})
    return value


def _each(value: Json, change: Change) -> Json:
    if isinstance(value, dict):
        return _present({name: change(item) for name, item in value.items()})
    if isinstance(value, list):
        return [item for item in map(change, value) if item is not _GONE]
    return value


def _present(members: dict[str, Json]) -> Json:
    return {name: item for name, item in members.items() if item is not _GONE}


def _without_url_queries(value: Json) -> Json:
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        return value.partition("?")[0]
    return _each(value, _without_url_queries)
