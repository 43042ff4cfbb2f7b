"""Expected results as their readers see them."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from worker.reports.build import each, one
from worker.reports.cursor import BadCursor
from worker.store import expectations
from worker.store.engine import Session
from worker.store.expectations import ExpectationFilter, Stretch

__all__ = ["Expectation", "ExpectationFilter", "ExpectationPage", "expectation", "newest", "page"]


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
    """Expectations in order of their deadlines, from behind the cursor `after`. Raises BadCursor.

    Of one source a page may have fewer than `limit` items, or none, and still not be the last: what it passes over is
    limited too. The list ends where there is no next cursor.
    """
    stretch = Stretch(None if after is None else _place(session, after), newest_first=newest_first)
    if wanted.source is not None:
        stretch = replace(stretch, until=expectations.look_until(session, wanted, stretch))
    found = expectations.page(session, wanted, stretch, limit=limit + 1)
    items = each(Expectation, found[:limit])
    ends_at = items[-1].id if len(found) > limit else stretch.until
    return ExpectationPage(items, str(ends_at) if ends_at else None)


def newest(session: Session, wanted: ExpectationFilter, *, limit: int) -> tuple[Expectation, ...]:
    """The expectations with the latest deadlines, however many others have to be passed over to find them."""
    found = page(session, wanted, limit=limit, newest_first=True)
    items = found.items
    while len(items) < limit and found.next_cursor is not None:
        found = page(session, wanted, limit=limit - len(items), after=found.next_cursor, newest_first=True)
        items += found.items
    return items


def _place(session: Session, cursor: str) -> UUID:
    """A cursor is the id of the last expectation that was seen."""
    try:
        place = UUID(cursor)
    except ValueError:
        raise BadCursor("not a cursor of this list") from None
    if str(place) != cursor or not expectations.exists(session, place):
        raise BadCursor("not a cursor of this list")
    return place
