"""`/api/v1/events?wait=`: whoever asks behind the end of the log is answered when something is there.

One thread of a process looks for all that wait, a few times a second, and only while somebody waits. A server that
lets nobody wait without a thread has a few that may wait with one.
"""

import threading
from dataclasses import dataclass
from functools import partial

import structlog
from flask import Response, after_this_request, g, request
from werkzeug.datastructures import Accept

from web.api import coding, models
from web.waits import ASK, Wait
from worker.clock import monotonic
from worker.domain.events import EventFilter, News
from worker.log import where
from worker.reports.build import json_text
from worker.reports.events import EventPage
from worker.reports.events import events as read_events
from worker.reports.events import news as read_news
from worker.runtime import Runtime
from worker.store.engine import Session

LOOK_SECONDS = 0.25
"""How late news may be. Four small questions a second, however many wait."""

MOST_NEWS = 1000
"""Events that one look takes in."""

MOST_HELD = 4
"""Threads of another server that may wait."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to read of the log."""

    wanted: EventFilter
    limit: int

    def read(self, session: Session, after: int) -> EventPage:
        """The page behind `after`."""
        return read_events(session, after=after, limit=self.limit, wanted=self.wanted)


@dataclass(slots=True)
class _Poll:
    asked: Asked
    after: int
    wait: Wait
    accepted: Accept
    empty: Response

    def answer(self, page: EventPage) -> Response:
        """As the empty page would be answered, whose headers it has."""
        made = Response(json_text(shown(page).model_dump()), headers=self.empty.headers)
        del made.headers["Content-Encoding"]
        return coding.encoded(made, self.accepted)


class Polling:
    """Everybody who waits for events in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._polls: list[_Poll] = []
        self._looking = False
        self._in_trouble = False
        self._held = threading.BoundedSemaphore(MOST_HELD)

    def page(self, asked: Asked, after: int, seconds: float) -> EventPage:
        """What the request that is being answered gets now; it may get more later, if there is nothing."""
        page = self._read(asked, after)
        if page.items or not page.at_end or not seconds or request.method == "HEAD":
            return page
        ask = request.environ.get(ASK)
        if ask is None:
            return self._hold(asked, page, seconds)
        wait: Wait | None = ask(seconds, g.actor)
        if wait is not None:
            after_this_request(partial(self._begin, asked, page.next_after, wait))
        return page

    def _read(self, asked: Asked, after: int) -> EventPage:
        with self._runtime.database.read() as session:
            return asked.read(session, after)

    def _hold(self, asked: Asked, page: EventPage, seconds: float) -> EventPage:
        if not self._held.acquire(blocking=False):
            return page
        try:
            until = monotonic() + seconds
            while not page.items and page.at_end and monotonic() < until:
                threading.Event().wait(LOOK_SECONDS)
                page = self._read(asked, page.next_after)
        finally:
            self._held.release()
        return page

    def _begin(self, asked: Asked, after: int, wait: Wait, empty: Response) -> Response:
        poll = _Poll(asked, after, wait, request.accept_encodings, empty)
        with self._lock:
            self._polls = [*(other for other in self._polls if not other.wait.is_over), poll]
            if not self._looking:
                self._start()
        return empty

    def _start(self) -> None:
        """Begin to look. Without a thread to be had, all wait in vain until one can be started for somebody else."""
        try:
            threading.Thread(target=self._look_on, name="polls", daemon=True).start()
        except RuntimeError as error:
            log.warning("events_not_looked_for", error=where(error))
        else:
            self._looking = True

    def _look_on(self) -> None:
        while polls := self._waiting():
            threading.Event().wait(LOOK_SECONDS)
            errors = self._look([poll for poll in polls if poll.wait.has_begun and not poll.wait.is_over])
            if errors and not self._in_trouble:
                log.warning("events_not_looked_for", error=where(errors[0]))
            self._in_trouble = bool(errors)

    def _waiting(self) -> list[_Poll]:
        with self._lock:
            self._polls = [poll for poll in self._polls if not poll.wait.is_over]
            self._looking = bool(self._polls)
            return list(self._polls)

    def _look(self, polls: list[_Poll]) -> list[Exception]:
        """Answer those for whom something is there. What goes wrong for one is no matter of the others: it waits on,
        and is told what it knew when its time is up."""
        found: dict[tuple[Asked, int], EventPage] = {}
        errors: list[Exception] = []
        try:
            news = self._news(polls)
        except Exception as error:  # noqa: BLE001 - the thread must live for those who wait
            return [error]
        for poll in polls:
            try:
                self._tell(poll, news, found)
            except Exception as error:  # noqa: BLE001 - as above
                errors.append(error)
        return errors

    def _news(self, polls: list[_Poll]) -> list[News]:
        if not polls:
            return []
        with self._runtime.database.read() as session:
            return read_news(session, after=min(poll.after for poll in polls), limit=MOST_NEWS)

    def _tell(self, poll: _Poll, news: list[News], found: dict[tuple[Asked, int], EventPage]) -> None:
        if any(item.sequence > poll.after and poll.asked.wanted.passes(item) for item in news):
            place = (poll.asked, poll.after)
            found[place] = found.get(place) or self._read(*place)
            poll.wait.finish(poll.answer(found[place]))
        elif news:
            poll.after = max(poll.after, news[-1].sequence)


def shown(page: EventPage) -> models.Events:
    """The page as it is answered."""
    items = [models.Event.model_validate(item) for item in page.items]
    return models.Events(items=items, next_after=page.next_after)
