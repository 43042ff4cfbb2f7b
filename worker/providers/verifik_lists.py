"""Verifik's lists: app registrations by the time of their creation, and webhooks that it failed to deliver."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

from worker.domain.reconcile import Found
from worker.domain.strict_json import Json, member, parse, text
from worker.domain.times import read_time
from worker.errors import UnreadableJson
from worker.providers.base import OutboundRequest, ref_or_none
from worker.providers.listing import (
    PAGE_SIZE,
    Listing,
    ListQuery,
    Page,
    Rereads,
    ends_before,
    entries,
    iso_time,
    whole_number,
)
from worker.providers.verifik import PATHS, get_request, kind_of_event
from worker.settings import Source

REGISTRATIONS = "app-registrations"
FAILED_WEBHOOKS = "webhook-events"

FILTERS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {REGISTRATIONS: (), FAILED_WEBHOOKS: (("where_response.status", "fail"),)}
)


class VerifikLists:
    """Verifik's side of reconciling."""

    rereads: Rereads | None = Rereads(tuple(PATHS), timedelta(days=30))
    """Nothing lists what has changed, only what was created; so what is open is read again."""

    def listings(self, source: Source) -> tuple[Listing, ...]:
        """The log of webhooks is used by Verifik's own dashboard, but is on no public page: it may not be there."""
        return Listing(REGISTRATIONS), Listing(FAILED_WEBHOOKS, optional=True)

    def list_request(self, source: Source, query: ListQuery, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """One page, counted from 1, newest first."""
        values = [
            *FILTERS.get(query.listing, ()),
            ("whereGTE_createdAt", iso_time(query.since)),
            ("sort", "-createdAt"),
            ("perPage", str(PAGE_SIZE)),
            ("page", query.cursor or "1"),
        ]
        if query.listing not in FILTERS:
            raise ValueError("Verifik has no such list")
        return get_request(source, f"{query.listing}?{urlencode(values)}")

    def read_list(self, source: Source, query: ListQuery, document: dict[str, Json]) -> Page:
        """The records of a page. Both envelopes are read: counts beside `data`, or in `pagination`."""
        items = entries(document, "data")
        read = _of_webhook if query.listing == FAILED_WEBHOOKS else _of_registration
        found = [read(item) for item in items]
        times = [read_time(member(item, "createdAt")) for item in items]
        wanted = [one for one, at in zip(found, times, strict=True) if at is None or at >= query.since]
        return Page(
            tuple(one for one in wanted if one is not None),
            sum(one is None for one in wanted),
            None if not items or ends_before(times, query.since) else _next(document, int(query.cursor or "1")),
        )


def _of_registration(item: Json) -> Found | None:
    ref = ref_or_none("app-registration", text(item, "_id"))
    return None if ref is None else _found(ref.kind, item)


def _of_webhook(item: Json) -> Found | None:
    """The record that a webhook was about. How the log keeps a webhook's body is not documented: as text or parsed."""
    body = _parsed(member(item, "body"))
    record = member(body, "object")
    kind = kind_of_event(text(body, "type") or text(item, "type"))
    return None if kind is None else _found(kind, record if isinstance(record, dict) else body)


def _found(kind: str, record: Json) -> Found | None:
    ref = ref_or_none(kind, text(record, "_id"))
    if ref is None:
        return None
    updated, created = read_time(member(record, "updatedAt")), read_time(member(record, "createdAt"))
    return Found(ref, updated or created, exact=updated is not None)


def _parsed(body: Json) -> Json:
    if not isinstance(body, str):
        return body
    try:
        return parse(body.encode("utf-8", "replace"))
    except UnreadableJson:
        return None


def _next(document: Json, page: int) -> str | None:
    """The next page's number. Without a count, pages are asked for until one is empty."""
    for place in (document, member(document, "pagination")):
        pages = whole_number(member(place, "pages"))
        if pages is not None:
            return str(page + 1) if page < pages else None
    return str(page + 1)
