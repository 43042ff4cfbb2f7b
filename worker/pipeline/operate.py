"""Operate: the deeds of operators, the same for API and command line. Each leaves an audit entry."""

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause
from worker.errors import UnknownSource
from worker.providers.registry import providers
from worker.settings import Settings, Source
from worker.store import audit, query_work
from worker.store.audit import Deed
from worker.store.engine import Session, database_time
from worker.store.resources import Want, mark_wanted


def retrieve(session: Session, settings: Settings, source: str, kind: str, external_id: str, *, actor: str) -> int:
    """Want a resource, whether or not a webhook told of it; returns its row's id. The caller nudges after the commit.

    Raises UnknownSource, and ValueError for an id or kind that cannot be retrieved.
    """
    configured = settings.sources.get(source)
    if configured is None:
        raise UnknownSource(f"there is no source {source!r}" if source.isprintable() else "there is no such source")
    key = ResourceKey(source, ResourceRef(kind, external_id))
    _require_retrievable(session, configured, key)
    now = database_time(session)
    want = Want(configured.provider, configured.environment, Cause.RETRIEVAL)
    audit.note(session, Deed(actor, "retrieve", f"{source}/{kind}/{external_id}"), now)
    return mark_wanted(session, {key: want}, now, revive=True)[key]


def _require_retrievable(session: Session, source: Source, key: ResourceKey) -> None:
    """A kind that the provider does not list is good if a webhook named this very resource before."""
    kinds = providers([source.provider])[source.provider].kinds
    if key.ref.kind not in kinds and query_work.resource(session, key) is None:
        raise ValueError(f"{source.provider} has no kind {key.ref.kind}; it has {', '.join(kinds)}")
