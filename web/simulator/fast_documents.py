"""Documents for the simulator's fast mode: built once for each path of the four APIs, then filled in with an id."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress

from web.simulator import gu1_api, persona_api, verifik_api
from web.simulator.credentials import BASE_PATHS
from web.simulator.records import iso
from web.simulator.world import World
from worker.clock import utc_now

DRAWN_TYPES = {"verification/": "verification/database", "report/": "report/watchlist", "document/": "document/generic"}
"""What Persona's general paths answer with: they take any type of a family, and the path does not say which."""


class Template:
    """One kind of document. `fill` costs about a microsecond."""

    def __init__(self, world: World, provider: str, kind: str) -> None:
        record = world.create(provider, kind)
        # Where there is nothing to decide, the record stays as it was made.
        with suppress(ValueError):
            record = world.change(record.ref, "approve")
        text = json.dumps(world.serve(record), ensure_ascii=False, separators=(",", ":"))
        self._pieces = text.split(record.ref.external_id)
        self._updated = iso(record.updated_at)
        self._filled = [piece.encode("utf-8") for piece in self._pieces]

    def refresh(self, moment: str) -> None:
        """From now on the document was last updated at this moment."""
        self._filled = [piece.replace(self._updated, moment).encode("utf-8") for piece in self._pieces]

    def fill(self, external_id: bytes) -> bytes:
        """The body of one answer."""
        return external_id.join(self._filled)


class Catalogue:
    """The documents of every path. What is before an id in a path is its key, with the slash."""

    def __init__(self, seed: int = 0) -> None:
        world = World(seed)
        self._templates: Mapping[bytes, Template] = {
            path.encode("ascii"): Template(world, provider, kind) for path, provider, kind in _paths()
        }

    def document(self, path: bytes, external_id: bytes) -> bytes | None:
        """The document with this id, or None where no provider has such a path."""
        template = self._templates.get(path)
        return template.fill(external_id) if template else None

    def refresh(self) -> None:
        """Let every document have been updated just now."""
        moment = iso(utc_now())
        for template in self._templates.values():
            template.refresh(moment)


def _paths() -> Iterator[tuple[str, str, str]]:
    """The path of each kind as its API spells it, the provider, and the kind."""
    persona = BASE_PATHS["persona"]
    for plural, name in persona_api.TYPED.items():
        yield f"{persona}/verification/{plural}/", "persona", f"verification/{name}"
    for kind in ("document/generic", "document/government-id"):
        yield f"{persona}/{kind}s/", "persona", kind
    for collection, kind in persona_api.PLAIN.items():
        yield f"{persona}/{collection}/", "persona", DRAWN_TYPES.get(kind, kind)
    for collection, kind in verifik_api.COLLECTIONS.items():
        yield f"{BASE_PATHS['verifik']}/v2/{collection}/", "verifik", kind
    for path, kind in gu1_api.PATHS.items():
        yield f"{BASE_PATHS['gu1']}{path}/", "gu1", kind
    yield f"{BASE_PATHS['yoti']}/sessions/", "yoti", "session"
