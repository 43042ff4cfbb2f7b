"""Persona's lists: its events, and the inquiries that were created in a window.

Events can be filtered by name but not by time, and come newest first; inquiries by the time of their creation. There is
no list of verifications: their events name them, and their inquiries lead to them.
"""

from urllib.parse import parse_qs, urlencode, urlsplit

from worker.domain.reconcile import Found
from worker.domain.strict_json import Json, member, text
from worker.domain.times import read_time
from worker.errors import UnexpectedDocument, UnreadableNotification
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
    safe_cursor,
)
from worker.providers.persona import event_resources, get_request
from worker.settings import Source

EVENTS = "events"
INQUIRIES = "inquiries"

ADDING_FAMILIES = frozenset({"inquiry", "verification"})
"""Kinds that a list may bring here for the first time. The list of events names everything that happened, whether or
not a webhook was ordered for it; of other families only what is known here already is looked at again."""


class PersonaLists:
    """Persona's side of reconciling."""

    rereads: Rereads | None = None
    """Whatever changes at Persona is in its list of events."""

    def listings(self, source: Source) -> tuple[Listing, ...]:
        """Events first: they name what changed, however old it is."""
        return Listing(EVENTS), Listing(INQUIRIES)

    def list_request(self, source: Source, query: ListQuery, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """One page of a hundred, behind the cursor."""
        if query.listing not in (EVENTS, INQUIRIES):
            raise ValueError("Persona has no such list")
        values = [("page[size]", str(PAGE_SIZE))]
        if query.listing == INQUIRIES:
            values.append(("filter[created-at-start]", iso_time(query.since)))
        if query.cursor is not None:
            values.append(("page[after]", query.cursor))
        return get_request(source, f"{query.listing}?{urlencode(values)}")

    def read_list(self, source: Source, query: ListQuery, document: dict[str, Json]) -> Page:
        """The resources that a page's events are about, or its inquiries."""
        items = entries(document, "data")
        read = _of_event if query.listing == EVENTS else _of_inquiry
        found = [read(item) for item in items]
        cursor = _next(document)
        if query.listing == EVENTS:
            times = [read_time(member(item, "attributes", "created-at")) for item in items]
            cursor = None if ends_before(times, query.since) else cursor
            # Events of old stand on the last page only because a page has a hundred.
            found = [
                one and [item for item in one if item.changed_at is None or item.changed_at >= query.since]
                for one in found
            ]
        return Page(tuple(item for one in found for item in one or ()), sum(one is None for one in found), cursor)


def _of_event(item: Json) -> list[Found] | None:
    attributes = member(item, "attributes")
    key, name = text(item, "id"), text(attributes, "name")
    if key is None or name is None:
        return None
    try:
        refs, _ = event_resources(member(attributes, "payload", "data"), name)
    except UnreadableNotification:
        return None
    at = read_time(member(attributes, "created-at"))
    return [Found(ref, at, delivery_key=key, adds=ref.kind.partition("/")[0] in ADDING_FAMILIES) for ref in refs]


def _of_inquiry(item: Json) -> list[Found] | None:
    ref = ref_or_none(text(item, "type"), text(item, "id"))
    if ref is None or ref.kind != "inquiry":
        return None
    updated = read_time(member(item, "attributes", "updated-at"))
    created = read_time(member(item, "attributes", "created-at"))
    return [Found(ref, updated or created, exact=updated is not None)]


def _next(document: Json) -> str | None:
    """The cursor in the link to the next page. The link itself is not followed: it could lead anywhere."""
    links = member(document, "links")
    if not isinstance(links, dict) or "next" not in links:
        raise UnexpectedDocument("the page does not say whether there is another one")
    link = links["next"]
    if link is None:
        return None
    if not isinstance(link, str):
        raise UnexpectedDocument("the page's link to the next one is no link")
    try:
        cursors = parse_qs(urlsplit(link).query, max_num_fields=50).get("page[after]", [])
    except ValueError:
        cursors = []
    return safe_cursor(cursors[-1] if cursors else None)
