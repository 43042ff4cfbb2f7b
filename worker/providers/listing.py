"""The optional port beside `base.Provider`: what exists at a provider, asked for page by page.

A lister makes no call. It is tolerant: an entry that names nothing usable is counted and left out, and only a page that
cannot be understood as a whole is an error. Nothing of a page is ever used as a URL.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Protocol, runtime_checkable

from worker.domain.reconcile import Found
from worker.domain.strict_json import Json, member
from worker.errors import UnexpectedDocument
from worker.providers.base import OutboundRequest
from worker.settings import Source

PAGE_SIZE = 100
"""The most that any of the providers gives at once."""

_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
"""Cursors come from the provider and go into our next URL, so they are as narrow as ids."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of a provider. An `optional` one may not exist in every account; then it is left out, and said."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which page: of which list, for what has happened since when, behind which cursor; None is the first."""

    listing: str
    since: datetime
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a page names, how many of its entries were unreadable, and the next page's cursor; None after the last."""

    found: tuple[Found, ...]
    unreadable: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Rereads:
    """Whose open results are read again without being listed: those of these kinds (None is all of them) which were
    first heard of within this time. Later the provider may have deleted them, and asking would only park them."""

    kinds: tuple[str, ...] | None
    within: timedelta


@runtime_checkable
class Lister(Protocol):
    """What a provider's lists are and how they read. A provider without any has an empty tuple of listings."""

    @property
    def rereads(self) -> Rereads | None:
        """Whose open results are to be read again; None for nobody's."""

    def listings(self, source: Source) -> tuple[Listing, ...]:
        """The lists to go through, in order."""

    def list_request(self, source: Source, query: ListQuery, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The call for one page. Raises ValueError for a list that is not the provider's."""

    def read_list(self, source: Source, query: ListQuery, document: dict[str, Json]) -> Page:
        """What a page says. Raises UnexpectedDocument for one that is no page, or that does not say what follows."""


def entries(document: Json, name: str) -> list[Json]:
    """The list called `name` in a page. Raises UnexpectedDocument where there is none."""
    found = member(document, name)
    if not isinstance(found, list):
        raise UnexpectedDocument("the answer is no page of a list")
    return found


def safe_cursor(cursor: Json) -> str:
    """The cursor, if it can be one. Raises UnexpectedDocument for what could steer a URL."""
    if not isinstance(cursor, str) or not _CURSOR.match(cursor):
        raise UnexpectedDocument("the page names no usable cursor for the next one")
    return cursor


def ends_before(times: Sequence[datetime | None], since: datetime) -> bool:
    """Whether a page is in order, newest first, and reaches back beyond `since`: then no later one is of interest.

    A page that is not in that order says nothing about the next one.
    """
    known = [moment for moment in times if moment is not None]
    in_order = all(newer >= older for newer, older in pairwise(known))
    return bool(known) and in_order and known[-1] < since


def whole_number(value: Json) -> int | None:
    """A non-negative whole number, also as text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def iso_time(moment: datetime) -> str:
    """The time as the providers' filters take it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
