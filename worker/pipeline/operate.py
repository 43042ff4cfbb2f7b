"""Operate: the deeds of operators, the same for API and command line. Each leaves an audit entry."""

from dataclasses import dataclass

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause
from worker.errors import UnknownSource
from worker.pipeline import write
from worker.providers.registry import providers
from worker.settings import Settings, Source
from worker.store import audit, query_work, sources
from worker.store.audit import Deed
from worker.store.engine import Session, database_time
from worker.store.resources import Want, mark_wanted

MOST_WOKEN = 10_000
"""Resources that a release makes due at once. It is one transaction; whatever is beyond that keeps its own time, which
is an hour away at most."""


def retrieve(session: Session, settings: Settings, source: str, kind: str, external_id: str, *, actor: str) -> int:
    """Want a resource, whether or not a webhook told of it; returns its row's id. The caller nudges after the commit.

    Raises UnknownSource, and ValueError for an id or kind that cannot be retrieved.
    """
    configured = configured_source(settings, source)
    key = ResourceKey(source, ResourceRef(kind, external_id))
    require_retrievable(session, configured, key)
    now = database_time(session)
    want = Want(configured.provider, configured.environment, Cause.RETRIEVAL)
    audit.note(session, Deed(actor, "retrieve", f"{source}/{kind}/{external_id}"), now)
    return mark_wanted(session, {key: want}, now, revive=True)[key]


def hold(session: Session, settings: Settings, source: str, *, actor: str, reason: str) -> bool:
    """Stop calling a source until an operator releases it; webhooks are still taken, and all work waits.

    A hold that a refused credential began becomes the operator's, and no probe ends it any more. Returns whether
    anything changed: a source that an operator holds already keeps that hold, with its reason. Raises UnknownSource.
    """
    configured_source(settings, source)
    now = database_time(session)
    sources.ensure_row(session, source)
    before = sources.state(session, source, lock=True)
    if before.held_at is not None and before.probe_at is None:
        return False
    shown = f"{reason} (by {actor})"
    if not write.hold(session, source, shown, now=now, probe_at=None, actor=actor):
        # It was held before, so there is no new event; but who took it over is for the audit.
        audit.note(session, Deed(actor, "hold", source, shown), now)
    return True


@dataclass(frozen=True, slots=True)
class Released:
    """What a release ended, and how many resources it made due at once."""

    hold: bool
    throttle: bool
    woken: int

    @property
    def changed(self) -> bool:
        """Whether the source was held or throttled at all."""
        return self.hold or self.throttle


def release(session: Session, settings: Settings, source: str, *, actor: str, reason: str | None = None) -> Released:
    """Let a source be called again, whoever or whatever held or throttled it. The caller nudges after the commit.

    Work that waits for a retry is due at once, because whoever releases a source has mended what failed. Raises
    UnknownSource.
    """
    configured_source(settings, source)
    now = database_time(session)
    held = write.release(session, source, now, actor=actor, reason=reason)
    throttled = sources.end_throttle(session, source, now)
    if throttled and not held:
        audit.note(session, Deed(actor, "release", source, reason), now)
    woken = sources.wake_work(session, source, now, MOST_WOKEN) if held or throttled else 0
    return Released(held, throttled, woken)


def configured_source(settings: Settings, source: str) -> Source:
    """The source of this name. Raises UnknownSource."""
    found = settings.sources.get(source)
    if found is None:
        raise UnknownSource(f"there is no source {source!r}" if source.isprintable() else "there is no such source")
    return found


def require_retrievable(session: Session, source: Source, key: ResourceKey) -> None:
    """Raise ValueError for a kind that the provider does not list, unless this very resource was named before."""
    kinds = providers([source.provider])[source.provider].kinds
    if key.ref.kind not in kinds and query_work.resource(session, key) is None:
        raise ValueError(f"{source.provider} has no kind {key.ref.kind}; it has {', '.join(kinds)}")
