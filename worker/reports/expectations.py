"""Expected results as their readers see them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.reports.build import each, one
from worker.reports.cursor import BadCursor
from worker.store import expectations
from worker.store.engine import Session
from worker.store.expectations import ExpectationFilter

__all__ = ["Expectation", "ExpectationFilter", "ExpectationPage", "expectation", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One expected result. `state` is an ExpectationState; `found` is the id of the resource that was found for it."""

    id: UUID
    source: str
    kind: str
    external_id: str | None
    reference: str | None
    deadline: datetime
    state: str
    actor: str
    created_at: datetime
    tried_at: datetime | None
    closed_at: datetime | None
    found: str | None


@dataclass(frozen=True, slots=True)
class ExpectationPage:
    """Some expectations, and the cursor behind the last of them; None at the end of the list."""

    items: tuple[Expectation, ...]
    next_cursor: str | None


def expectation(session: Session, expectation_id: UUID) -> Expectation | None:
    """One expectation; None if there is no such."""
    return one(Expectation, expectations.one(session, expectation_id))


def page(
    session: Session,
    wanted: ExpectationFilter,
    *,
    limit: int,
    after: str | None = None,
    newest_first: bool = False,
) -> ExpectationPage:
    """Expectations in order of their deadlines, from behind the cursor `after`. Raises BadCursor."""
    place = None if after is None else _place(session, after)
    found = expectations.page(session, wanted, after=place, limit=limit + 1, newest_first=newest_first)
    items = each(Expectation, found[:limit])
    return ExpectationPage(items, str(items[-1].id) if len(found) > limit else None)


def _place(session: Session, cursor: str) -> UUID:
    """A cursor is the id of the last expectation that was seen."""
    try:
        place = UUID(cursor)
    except ValueError:
        raise BadCursor("not a cursor of this list") from None
    if str(place) != cursor or not expectations.exists(session, place):
        raise BadCursor("not a cursor of this list")
    return place
