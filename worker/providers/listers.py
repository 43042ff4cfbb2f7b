"""Which providers can be reconciled, and how. One that is missing here has its open results read again, and no more.

A provider of another package takes part by having the methods of `listing.Lister` itself.
"""

from collections.abc import Mapping
from datetime import timedelta

from worker.domain.strict_json import Json
from worker.providers.base import OutboundRequest, Provider
from worker.providers.gu1_lists import Gu1Lists
from worker.providers.listing import Lister, Listing, ListQuery, Page, Rereads
from worker.providers.persona_lists import PersonaLists
from worker.providers.verifik_lists import VerifikLists
from worker.settings import Source

SESSIONS_KEPT = timedelta(days=6)
"""Yoti deletes a session after seven days, where nothing else was ordered; asking for it then would only park it."""

OTHERS_KEPT = timedelta(days=7)


class Unlisted:
    """A provider that lists nothing: what is known and open is read again, and what was never told of stays unknown."""

    def __init__(self, within: timedelta) -> None:
        self.rereads: Rereads | None = Rereads(None, within)

    def listings(self, source: Source) -> tuple[Listing, ...]:
        """None."""
        return ()

    def list_request(self, source: Source, query: ListQuery, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """Raises ValueError: there is nothing to ask for."""
        raise ValueError("this provider has no lists")

    def read_list(self, source: Source, query: ListQuery, document: dict[str, Json]) -> Page:
        """Raises ValueError: nothing was asked for."""
        raise ValueError("this provider has no lists")


BUILT_IN: Mapping[str, Lister] = {
    "persona": PersonaLists(),
    "verifik": VerifikLists(),
    "gu1": Gu1Lists(),
    "yoti": Unlisted(SESSIONS_KEPT),
}


def lister(provider: Provider) -> Lister:
    """How `provider` is reconciled."""
    if isinstance(provider, Lister):
        return provider
    return BUILT_IN.get(provider.name) or Unlisted(OTHERS_KEPT)
