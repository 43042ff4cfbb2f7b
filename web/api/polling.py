"""`/api/v1/events?wait=`: whoever asks behind the end of the log is answered when something is there.

One thread of a process looks for all that wait, a few times a second, and only while somebody waits. A server that
lets nobody wait without a thread has a few that may wait with one.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog
from flask import Response, after_this_request, request
from werkzeug.datastructures import Accept

from web.api import coding, models
from web.waits import ASK, Wait
from worker.clock import monotonic
from worker.domain.events import EventFilter
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
        wait: Wait | None = ask(seconds)
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
            self._polls.append(poll)
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look_on, name="polls", daemon=True).start()
        return empty

    def _look_on(self) -> None:
        while polls := self._waiting():
            threading.Event().wait(LOOK_SECONDS)
            try:
                self._look([poll for poll in polls if poll.wait.has_begun and not poll.wait.is_over])
                self._in_trouble = False
            except Exception as error:  # noqa: BLE001 - they wait on, and are told what they knew when their time is up
                if not self._in_trouble:
                    log.warning("events_not_looked_for", error=where(error))
                self._in_trouble = True

    def _waiting(self) -> list[_Poll]:
        with self._lock:
            self._polls = [poll for poll in self._polls if not poll.wait.is_over]
            self._looking = bool(self._polls)
            return list(self._polls)

    def _look(self, polls: list[_Poll]) -> None:
        found: dict[tuple[Asked, int], EventPage] = {}
        if not polls:
            return
        with self._runtime.database.read() as session:
            news = read_news(session, after=min(poll.after for poll in polls), limit=MOST_NEWS)
            for poll in polls:
                if any(sequence > poll.after and poll.asked.wanted.passes(event) for sequence, event in news):
                    place = (poll.asked, poll.after)
                    found[place] = found.get(place) or poll.asked.read(session, poll.after)
                elif news:
                    poll.after = max(poll.after, news[-1][0])
        self._tell(polls, found)

    def _tell(self, polls: list[_Poll], found: Mapping[tuple[Asked, int], EventPage]) -> None:
        for poll in polls:
            page = found.get((poll.asked, poll.after))
            if page is not None:
                poll.wait.finish(poll.answer(page))


def shown(page: EventPage) -> models.Events:
    """The page as it is answered."""
    items = [models.Event.model_validate(item) for item in page.items]
    return models.Events(items=items, next_after=page.next_after)
