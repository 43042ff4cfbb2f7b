"""A burst costs few calls and hides nothing, and a backlog leaves room for what happens now: on PostgreSQL, Redis and
two workers."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.flow.conftest import NO_LIMIT
from tests.store import databases
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import Installation, eventually
from tests.support.services import Postgres
from web.simulator.credentials import Setting
from web.simulator.faults import Faults
from web.simulator.notifications import Notice, compose
from web.simulator.records import Ref
from web.simulator.server import Simulator
from web.simulator.world import World
from web.simulator.yoti_documents import check_ids
from worker.clock import monotonic
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause, Priority
from worker.store import resources
from worker.store.engine import Database, database_time
from worker.store.resources import Want

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis, pytest.mark.timeout(400)]

SESSIONS = 1000
AT_ONCE = 100
"""Sessions that are being told of at the same time."""

MOST_CALLS = 2
"""For each session on average: the first news is read at once, and the rest by one more call."""

UNAWARE = 20
"""Sessions of the first moment, in which nobody can know yet that a burst has begun. They may cost one call more."""

BACKLOG = 5000
SOON = 2.0
"""Seconds from an acknowledgement to the stored result, whatever is replayed meanwhile."""


@pytest.fixture
def migrated_url(postgres_server: Postgres) -> Iterator[str]:
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def start(simulator: Simulator, migrated_url: str, redis_url: str, tmp_path):
    """Starts two workers and a receiver whose sources are set as asked."""

    @contextmanager
    def started(every_source: Mapping[str, Setting] | None = None) -> Iterator[Flow]:
        settings: dict[str, Setting] = {"database_url": migrated_url, "broker_url": redis_url, "worker_processes": 2}
        with Installation(tmp_path, simulator.credentials, simulator.url, settings, every_source) as made:
            made.worker(2)
            try:
                with flow(simulator, made, made.web().url, threads=16) as running:
                    yield running
            finally:
                made.show()

    return started


def session_story(world: World) -> Iterator[Notice]:
    """Four topics, each after a change of the session."""
    session = world.create("yoti", "session", checks=["ID_DOCUMENT_AUTHENTICITY", "LIVENESS", "ID_DOCUMENT_FACE_MATCH"])
    yield compose(world, world.change(session.ref, "start"), "client_session_token_deleted")
    for _ in range(2):
        record = world.change(session.ref, "complete")
        yield compose(world, record, "check_completion", check_id=check_ids(record.document, done=True)[-1])
    yield compose(world, world.change(session.ref, "approve"), "session_completion")


def tell_at_once(running: Flow, rng: random.Random) -> int:
    """Tell the stories of all sessions, many at a time, with duplicates and out of order. Returns the notifications."""
    begun, sent = 0, 0
    open_stories: list[Iterator[Notice]] = []
    while begun < SESSIONS or open_stories:
        while len(open_stories) < AT_ONCE and begun < SESSIONS:
            open_stories.append(session_story(running.simulator.world))
            begun += 1
        story = rng.choice(open_stories)
        notice = next(story, None)
        if notice is None:
            open_stories.remove(story)
        else:
            sent += running.notifier.scatter(notice, rng, duplicate=0.2, reorder=0.3)
    return sent


def test_a_burst_of_sessions_costs_two_calls_each(start):
    with start() as running:
        sent = tell_at_once(running, random.Random(4))
        assert sent > 4 * SESSIONS
        assert running.notifier.drain(120)
        running.settled(120)

        calls = Counter(call.external_id for call in running.simulator.world.calls())
        assert len(calls) == SESSIONS
        assert calls.total() <= MOST_CALLS * SESSIONS + UNAWARE, Counter(calls.values())
        assert_nothing_lost(running)
        newest = running.rows("SELECT count(*) AS n FROM v1_results WHERE stage = 'decided' AND outcome = 'approved'")
        assert newest == [{"n": SESSIONS}]


def want_again(running: Flow, refs: list[Ref]) -> None:
    """What a replay of these does, in one go."""
    database = Database(running.installation.database_url)
    keys = [ResourceKey(ref.provider, ResourceRef(ref.kind, ref.external_id)) for ref in refs]
    wants = {key: Want(key.source, "sandbox", Cause.REPLAY, Priority.REPLAY) for key in keys}
    with database.write() as session:
        resources.mark_wanted(session, wants, database_time(session))
    database.dispose()


def test_a_webhook_does_not_wait_for_a_replay_of_thousands(start):
    with start({"rate_limit_per_minute": 300}) as running:
        world = running.simulator.world
        running.simulator.faults.set("gu1", Faults(rate_limit_per_minute=NO_LIMIT, latency=0.05))
        backlog = [world.create("gu1", "kyc-validation").ref for _ in range(BACKLOG)]
        want_again(running, backlog)
        eventually(lambda: len(world.calls()) >= 200, "the replay is under way", 60)

        waits = []
        for _ in range(10):
            record = world.change(world.create("gu1", "kyc-validation").ref, "approve")
            assert running.tell(record).acknowledged
            began = monotonic()
            running.result(record.ref, outcome="approved")
            waits.append(monotonic() - began)

        assert max(waits) < SOON, waits
        live = 10
        replayed = len(world.calls()) - live
        assert replayed <= 240 * (1 + 1), "four fifths of a minute's calls, and of the next one's"
        [waiting] = running.rows("SELECT count(*) AS n FROM resources WHERE due_at IS NOT NULL AND priority = 2")
        assert int(str(waiting["n"])) >= BACKLOG - 2 * 240
