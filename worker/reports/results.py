"""Results as readers see them: the current ones, and every version that ever was."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar, cast

from worker.domain.documents import MASK, Paths, mask, plain_word
from worker.domain.model import ResourceKey
from worker.domain.strict_json import Json, member, parse, strings, text
from worker.reports import cursor
from worker.reports.build import each
from worker.store import query_results
from worker.store.engine import Session
from worker.store.query import Record
from worker.store.query_results import Position, ResultFilter, Stretch
from worker.store.types import storable_json

__all__ = [
    "Check", "Result", "ResultDetail", "ResultFilter", "ResultPage", "Version", "history", "masked", "newest", "page",
    "result",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A line of the list of results, as in `v1_results`. What only the current version knows is None for earlier
    ones."""

    source: str
    provider: str
    environment: str
    kind: str
    external_id: str
    reference: str | None
    stage: str
    outcome: str
    final: bool
    derived: bool | None
    provider_status: str | None
    score: float | None
    version: int
    mapping_version: int
    provider_created_at: datetime | None
    provider_updated_at: datetime | None
    completed_at: datetime | None
    first_seen_at: datetime
    retrieved_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One named test inside a result. An erased version's checks have lost their reasons and details."""

    name: str
    outcome: str
    provider_outcome: str | None
    score: float | None
    threshold: float | None
    required: bool | None
    reasons: list[str]
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDetail(Result):
    """One result, whole. `document` is None once it was erased."""

    checks: tuple[Check, ...]
    document: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A line of a result's history, as in `v1_history`."""

    version: int
    stage: str
    outcome: str
    final: bool
    provider_status: str | None
    mapping_version: int
    api_version: str | None
    retrieved_at: datetime
    cause: str
    document_sha256: str
    redacted: bool
    erased_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResultPage:
    """Some results, and the cursor behind the last of them; None at the end of the list."""

    items: tuple[Result, ...]
    next_cursor: str | None


def page(
    session: Session,
    wanted: ResultFilter,
    *,
    limit: int,
    after: str | None = None,
    newest_first: bool = False,
) -> ResultPage:
    """Results in order of change, from behind the cursor `after`. Raises BadCursor.

    With a filter a page may have fewer than `limit` items, or none, and still not be the last: what it passes over is
    limited too. The list ends where there is no next cursor.

    Oldest first, a result that changes meanwhile comes again at the end. Only the event log can be followed without
    missing anything: a change may be committed with an earlier time than that of one already seen.
    """
    stretch = Stretch(None if after is None else cursor.decode(after), newest_first=newest_first)
    if wanted.passes_over:
        stretch = replace(stretch, until=query_results.look_until(session, wanted, stretch))
    found = query_results.result_page(session, wanted, stretch, limit=limit + 1)
    ends_at = _position(found[limit - 1]) if len(found) > limit else stretch.until
    items = each(Result, (_without_id(item) for item in found[:limit]))
    return ResultPage(items, cursor.encode(ends_at) if ends_at else None)


def newest(session: Session, wanted: ResultFilter, *, limit: int) -> tuple[Result, ...]:
    """The results that changed last, however many others have to be passed over to find them."""
    found = page(session, wanted, limit=limit, newest_first=True)
    items = found.items
    while len(items) < limit and found.next_cursor is not None:
        found = page(session, wanted, limit=limit - len(items), after=found.next_cursor, newest_first=True)
        items += found.items
    return items


def _without_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "resource_id"}


def _position(record: Record) -> Position:
    updated_at, resource_id = record["updated_at"], record["resource_id"]
    if not isinstance(updated_at, datetime) or not isinstance(resource_id, int):
        raise TypeError("a result has no place in its list")
    return Position(updated_at, resource_id)


def result(
    session: Session, key: ResourceKey, *, version: int | None = None, as_of: datetime | None = None
) -> ResultDetail | None:
    """One result with its checks and its document: the current one, version `version`, or the one of the time
    `as_of`."""
    if version is None and as_of is None:
        found = query_results.result(session, key)
    else:
        found = _past(query_results.version(session, key, number=version, as_of=as_of))
    if found is None:
        return None
    number = found["version"]
    checks = query_results.checks_of(session, key, number if isinstance(number, int) else 0)
    [detail] = each(ResultDetail, [{**found, "checks": each(Check, checks)}])
    return detail


def _past(record: Record | None) -> Record | None:
    """The record with the kept bytes read into a document, which says the same as that of a current result."""
    if record is None:
        return None
    body = record["body"]
    document = storable_json(parse(body)) if isinstance(body, bytes) else None
    return {**{name: value for name, value in record.items() if name != "body"}, "document": document}


def history(
    session: Session, key: ResourceKey, *, after: int = 0, limit: int, newest_first: bool = False
) -> tuple[Version, ...]:
    """The versions with numbers above `after`, in order; empty if there is no such result."""
    return each(Version, query_results.history(session, key, after=after, limit=limit, newest_first=newest_first))


Shown = TypeVar("Shown", Result, ResultDetail, Version)


def masked(shown: Shown, paths: Paths) -> Shown:
    """The same for a reader who may not see personal data, by what the provider declares of the document's kind.

    Hidden are: the document but for its plain parts; of each check the reasons, the details and the provider's own word
    as far as they may quote a person; the reference, which customers choose, and choose names and e-mail addresses; a
    provider status that looks like none; and of a version the digest of its document, by which a guess of a small one
    could be confirmed. Verdict, score, ids, numbers and times stay.
    """
    shown = replace(shown, provider_status=plain_word(shown.provider_status))
    if isinstance(shown, Version):
        return replace(shown, document_sha256=MASK)
    shown = replace(shown, reference=MASK if shown.reference else shown.reference)
    if isinstance(shown, ResultDetail):
        checks = tuple(_masked_check(check, paths) for check in shown.checks)
        shown = replace(shown, document=mask(shown.document, paths.plain), checks=checks)
    return shown


def _masked_check(check: Check, paths: Paths) -> Check:
    """The name and what is computed stay, whatever a provider declares; reasons, details and words need a path."""
    said: dict[str, Json] = {"reasons": [*check.reasons], "provider_outcome": check.provider_outcome}
    # What came from a document, and was kept as JSON, is JSON.
    said["details"] = cast("dict[str, Json]", dict(check.details))
    kept = mask(said, paths.plain_checks)
    words = text(kept, "provider_outcome")
    details = member(kept, "details")
    return replace(
        check,
        name=plain_word(check.name) or check.name,
        provider_outcome=words if check.provider_outcome is None or words else MASK,
        reasons=[*strings(kept, "reasons")] or [MASK for _ in check.reasons],
        details=details if isinstance(details, dict) else dict.fromkeys(check.details, MASK),
    )
