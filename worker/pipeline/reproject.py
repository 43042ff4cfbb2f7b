"""Reproject: read the stored bytes of a result again with the present mapping, without any call.

The bytes stay; what was read in them is replaced, and an event tells of a verdict that changed
(`docs/decisions/0006-reprojecting-updates-the-reading.md`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.events import Event, types_for
from worker.domain.model import Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.replays import Ended, ItemOutcome
from worker.domain.states import Cause, Priority, Stage
from worker.errors import UnexpectedDocument, UnreadableJson
from worker.pipeline.read import read_again
from worker.pipeline.write import MOST_RELATED
from worker.providers.base import Provider
from worker.settings import Source
from worker.store import inbox, outbox, readings, resources, results, sources
from worker.store.engine import Session
from worker.store.readings import Projection, StoredVersion
from worker.store.resources import Want

CAUSE = "reproject"
"""Events say it, because nothing changed at the provider."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A stored version, and what the present mapping reads in it. `news` are related resources that are not known."""

    version: StoredVersion
    before: Projection
    reading: Reading
    mapping_version: int
    news: tuple[ResourceRef, ...]

    @property
    def settled(self) -> bool:
        """Whether there is nothing to write."""
        return not self.news and self.says_nothing_new(self.before)

    def says_nothing_new(self, before: Projection) -> bool:
        """Whether readers have seen all this already, by this mapping or a newer one."""
        return before.mapping_version >= self.mapping_version and before.says(self.reading)


class Reprojector:
    """Reads stored versions with the mappings of the configured providers."""

    def __init__(self, configured: Mapping[str, Source], providers: Mapping[str, Provider]) -> None:
        self._sources = configured
        self._providers = providers

    def examine(self, session: Session, source: str, resource_id: int) -> Examined | Ended:
        """Read the newest version of a resource again; writes nothing. Raises whatever a mapping's bug raises."""
        settings = self._sources.get(source)
        if settings is None:
            return Ended(ItemOutcome.SKIPPED, "its source is not configured")
        version = readings.newest(session, resource_id)
        if version is None:
            return Ended(ItemOutcome.SKIPPED, "nothing was stored yet")
        if version.body is None:
            return Ended(ItemOutcome.ERASED)
        before = readings.projection(session, version)
        if before is None:
            return Ended(ItemOutcome.SKIPPED, "it was stored anew meanwhile")
        provider = self._providers[settings.provider]
        try:
            reading = read_again(provider, settings, version.key.ref, version.body)
        except (UnreadableJson, UnexpectedDocument) as error:
            return Ended(ItemOutcome.UNREADABLE, str(error))
        news = _unknown(session, version.key, reading)
        return Examined(version, before, reading, provider.mapping_version, news)


def write(session: Session, found: Examined, now: datetime) -> ItemOutcome | None:
    """Make the reading what readers see; None if a retrieve has stored a newer version meanwhile.

    Doing it twice changes nothing.
    """
    before = readings.projection(session, found.version, lock=True)
    if before is None:
        return None
    outcome = _project(session, found, before, now)
    source, ref = found.version.key.source, found.version.key.ref
    if not found.says_nothing_new(before):
        sources.note_drift(session, source, ref.kind, set(found.reading.drift), now)
    want = Want(found.version.provider, found.version.environment, Cause.DISCOVERED, Priority.REPLAY)
    resources.mark_wanted(session, {ResourceKey(source, one): want for one in found.news}, now)
    return outcome


def _project(session: Session, found: Examined, before: Projection, now: datetime) -> ItemOutcome:
    if before.says(found.reading):
        if found.mapping_version > before.mapping_version:
            readings.note_mapping(session, found.version, found.mapping_version)
        return ItemOutcome.UNCHANGED
    readings.replace(session, found.version, found.reading, found.mapping_version, now)
    verdict = found.reading.verdict
    if verdict == before.verdict:
        return ItemOutcome.UPDATED
    if verdict.stage is Stage.ERASED:
        results.erase_bodies(session, found.version.resource_id, found.version.number, now)
        inbox.erase_bodies(session, found.version.resource_id, now)
    outbox.append(session, _events(found, before), now)
    return ItemOutcome.CHANGED


def _unknown(session: Session, key: ResourceKey, reading: Reading) -> tuple[ResourceRef, ...]:
    related = [ref for ref in dict.fromkeys(reading.related) if ref != key.ref][:MOST_RELATED]
    known = results.finality(session, key.source, related)
    return tuple(ref for ref in related if ref not in known)


def _events(found: Examined, before: Projection) -> list[Event]:
    key, reading = found.version.key, found.reading
    updated = reading.provider_updated_at
    data = {
        "source": key.source,
        "provider": found.version.provider,
        "environment": found.version.environment,
        "kind": key.ref.kind,
        "external_id": key.ref.external_id,
        "version": found.version.number,
        "stage": reading.verdict.stage,
        "outcome": reading.verdict.outcome,
        "final": reading.verdict.final,
        "derived": reading.derived,
        "previous": _told(before.verdict),
        "provider_updated_at": updated.isoformat() if updated else None,
        "retrieved_at": before.retrieved_at.isoformat(),
        "mapping_version": found.mapping_version,
        "cause": CAUSE,
    }
    return [
        Event(
            event_type,
            key.source,
            key.ref.kind,
            key.ref.external_id,
            found.version.number,
            reading.verdict.stage,
            reading.verdict.outcome,
            # What was read before is part of the name, because a mapping that came back changes its mind again.
            occasion=f"mapping-{found.mapping_version}-{before.updated_at.isoformat()}",
            data=data,
        )
        for event_type in types_for(before.verdict, reading.verdict)
    ]


def _told(verdict: Verdict) -> dict[str, object]:
    return {"stage": verdict.stage, "outcome": verdict.outcome}
