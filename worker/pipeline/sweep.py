"""Sweep: find what nobody works on, and ring for it. Idempotent: two leaders do no harm."""

import socket
import uuid
from collections.abc import Callable, Sequence

from worker.store import leases, resources, sources
from worker.store.engine import Database, database_time


class Sweeper:
    """Rings once for each source that has work due and may be called, however long its backlog is."""

    def __init__(
        self, database: Database, slugs: Sequence[str], nudge: Callable[[str], None], publish: Callable[[], None]
    ) -> None:
        self._database = database
        self._slugs = slugs
        self._nudge = nudge
        self._publish = publish
        self._holder = f"{socket.gethostname()}:{uuid.uuid4()}"

    def sweep(self) -> None:
        """One sweep, if this process leads. Every process wakes its publisher: it may be the one that serves a sink."""
        self._publish()
        with self._database.write() as session:
            now = database_time(session)
            if not leases.acquire(session, leases.SWEEP, self._holder, now=now, lasting=leases.SWEEP_LASTING):
                return
        with self._database.read() as session:
            due = resources.sources_due(session, self._slugs)
            states = sources.states(session)
            callable_now = [slug for slug in due if slug not in states or states[slug].may_call(now) != 0]
        for slug in callable_now:
            self._nudge(slug)
