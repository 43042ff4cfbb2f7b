"""gu1's lists: face matches and ID verifications, of which no webhook tells. Of validations there is no list."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

from worker.domain.reconcile import Found
from worker.domain.strict_json import Json, member, text
from worker.domain.times import read_time
from worker.providers.base import OutboundRequest, ref_or_none
from worker.providers.gu1 import get_request, same_organization
from worker.providers.gu1_mapping import BIOMETRIC_SESSION, FACE_MATCH, ID_VERIFICATION, KYC_VALIDATION
from worker.providers.listing import (
    PAGE_SIZE,
    Listing,
    ListQuery,
    Page,
    Rereads,
    ends_before,
    entries,
    whole_number,
)
from worker.settings import Source

LISTS: Mapping[str, str] = MappingProxyType(
    {
        FACE_MATCH: "/api/kyc/face-match/verifications",
        ID_VERIFICATION: "/api/kyc/id-verification/verifications",
    }
)
"""The first one's path is inferred from the second, which is documented."""


class Gu1Lists:
    """gu1's side of reconciling."""

    rereads: Rereads | None = Rereads(
        (KYC_VALIDATION, BIOMETRIC_SESSION, FACE_MATCH, ID_VERIFICATION), timedelta(days=30)
    )
    """gu1's own pages expect webhooks to be lost, and links to a session live for up to thirty days."""

    def listings(self, source: Source) -> tuple[Listing, ...]:
        """Both are optional: an account may have one product and not the other."""
        return tuple(Listing(name, optional=True) for name in LISTS)

    def list_request(self, source: Source, query: ListQuery, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """One page by offset. There is no filter by time."""
        path = LISTS.get(query.listing)
        if path is None:
            raise ValueError("gu1 has no such list")
        return get_request(source, f"{path}?{urlencode({'limit': PAGE_SIZE, 'offset': query.cursor or '0'})}")

    def read_list(self, source: Source, query: ListQuery, document: dict[str, Json]) -> Page:
        """The rows of a page. Their order is not documented, so a page is the last one of interest only if it shows
        that the newest come first."""
        items = entries(document, "verifications")
        times = [read_time(member(item, "createdAt")) for item in items]
        found = [_found(source, query.listing, item) for item in items]
        wanted = [one for one, at in zip(found, times, strict=True) if at is None or at >= query.since]
        return Page(
            tuple(one for one in wanted if one is not None),
            sum(one is None for one in wanted),
            None if not items or ends_before(times, query.since) else _next(document, query, len(items)),
        )


def _found(source: Source, kind: str, row: Json) -> Found | None:
    ref = ref_or_none(kind, text(row, "id"))
    if ref is None or not same_organization(source, member(row, "organizationId")):
        return None
    return Found(ref, read_time(member(row, "createdAt")), status=text(row, "status"), announced=False)


def _next(document: Json, query: ListQuery, rows: int) -> str | None:
    """The next offset. Without a count, pages are asked for until one is empty."""
    reached = int(query.cursor or "0") + rows
    total = whole_number(member(document, "pagination", "total"))
    return None if total is not None and reached >= total else str(reached)
