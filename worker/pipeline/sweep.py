"""Sweep: find what nobody works on, and ring for it. Idempotent: two leaders do no harm."""

import os
import socket
import uuid
from collections.abc import Callable, Sequence

import structlog

from worker.log import where
from worker.store import leases, resources, sources
from worker.store.engine import Database, database_time

log = structlog.get_logger(__name__)


class Sweeper:
    """Rings once for each source that has work due and may be called, however long its backlog is.

    `chores` are what else the leader does each time: short, and idempotent like the sweep itself.
    """

    def __init__(
        self,
        database: Database,
        slugs: Sequence[str],
        nudge: Callable[[str], None],
        publish: Callable[[], None],
        chores: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._database = database
        self._slugs = slugs
        self._nudge = nudge
        self._publish = publish
        self._chores = chores
        # The process id is for people: who looks into the table sees whom to look at.
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"

    def sweep(self) -> None:
        """One sweep, if this process leads. Every process wakes its publisher: it may be the one that serves a sink."""
        self._publish()
        if not self._leads():
            return
        with self._database.read() as session:
            now = database_time(session)
            due = resources.sources_due(session, self._slugs)
            states = sources.states(session)
            callable_now = [slug for slug in due if slug not in states or states[slug].may_call(now) != 0]
        for slug in callable_now:
            self._nudge(slug)
        for chore in self._chores:
            self._do(chore)

    def _leads(self) -> bool:
        """Whether this process leads. Looking costs nothing; the lease is written only when it is about to end."""
        with self._database.read() as session:
            left = leases.standing(session, leases.SWEEP, self._holder, now=database_time(session))
        if left is None or left > leases.SWEEP_RENEWED:
            return left is not None
        with self._database.write() as session:
            now = database_time(session)
            return leases.acquire(session, leases.SWEEP, self._holder, now=now, lasting=leases.SWEEP_LASTING)

    @staticmethod
    def _do(chore: Callable[[], None]) -> None:
        try:
            chore()
        except Exception as error:  # noqa: BLE001 - one chore's trouble must not keep the others from being done
            log.error("chore_failed", chore=getattr(chore, "__qualname__", "chore"), error=where(error))
