"""A burst of Yoti sessions, told of in turn, partly twice and partly late, and the calls that they lead to.

The simulator that checks everything plays Yoti here, in this process: it is slow, but it knows each session and counts
each call. What is counted does not depend on how fast the machine is.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.children import end
from bench.protocol import Broken, Sample
from bench.stage import Stage
from bench.verisink import Verisink, verisink
from tests.support.evidence import Flow, flow
from tests.support.processes import answers
from web.simulator.notifications import Notice, compose
from web.simulator.server import Simulator
from web.simulator.world import World
from web.simulator.yoti_documents import check_ids

CHECKS = ("ID_DOCUMENT_AUTHENTICITY", "LIVENESS", "ID_DOCUMENT_FACE_MATCH")
AT_ONCE = 100
"""Sessions that are being told of at the same time."""

TWICE, LATE = 0.2, 0.3
"""Shares of the notifications that are sent a second time, and that younger ones overtake."""

BROKER = 8
SETTLE_SECONDS = 120.0
DECIDED = "SELECT count(*) FROM results WHERE stage = 'decided' AND outcome = 'approved'"


@dataclass(frozen=True, slots=True)
class Told:
    """How many notifications there were, and how many copies of them were sent."""

    notices: int
    copies: int


@contextmanager
def yoti(stage: Stage, environ: dict[str, str]) -> Iterator[Flow]:
    """The simulator, and a Verisink of two receivers and two workers that points at it."""
    with Simulator(stage.credentials, seed=4) as simulator, ExitStack() as stack:
        ours = stack.enter_context(verisink(stage, simulator.url, broker=BROKER))
        _start(ours, stack, environ)
        yield stack.enter_context(flow(simulator, ours.installation, ours.installation.url, threads=16))


def _start(ours: Verisink, stack: ExitStack, environ: dict[str, str]) -> None:
    worker, web = (ours.installation.start(name, **environ) for name in ("worker", "web"))
    for child in (worker, web):
        stack.callback(end, child)
    worker.ready(worker.children)
    web.ready(lambda: answers(ours.installation.url + "/readyz"))


def told(running: Flow, sessions: int) -> Sample:
    """Tell of so many sessions, wait for what it leads to, and count. Raises Broken unless each session was read, and
    its last state is stored."""
    sent = _tell(running, sessions, random.Random(4))
    if not running.notifier.drain(SETTLE_SECONDS):
        raise Broken(f"the burst was not told of within {SETTLE_SECONDS:.0f} s")
    running.settled(SETTLE_SECONDS)
    calls = Counter(call.external_id for call in running.simulator.world.calls())
    [stored] = running.rows(DECIDED.replace("count(*)", "count(*) AS n"))
    if len(calls) != sessions or int(str(stored["n"])) != sessions:
        raise Broken(f"of {sessions} sessions {len(calls)} were read, and {stored['n']} are stored as they ended")
    if len(running.notifier.acknowledged()) < sent.copies:
        raise Broken(f"{sent.copies} webhooks were sent, and fewer acknowledged")
    return {
        "webhooks": float(sent.copies),
        "sessions": float(sessions),
        "calls": float(calls.total()),
        "calls_per_webhook": calls.total() / sent.copies,
        "calls_per_notice": calls.total() / sent.notices,
        "calls_per_session": calls.total() / sessions,
    }


def _story(world: World) -> Iterator[Notice]:
    """Four topics, each after a change of the session."""
    session = world.create("yoti", "session", checks=list(CHECKS))
    yield compose(world, world.change(session.ref, "start"), "client_session_token_deleted")
    for _ in range(2):
        record = world.change(session.ref, "complete")
        yield compose(world, record, "check_completion", check_id=check_ids(record.document, done=True)[-1])
    yield compose(world, world.change(session.ref, "approve"), "session_completion")


def _tell(running: Flow, sessions: int, rng: random.Random) -> Told:
    begun = notices = copies = 0
    under_way: list[Iterator[Notice]] = []
    while begun < sessions or under_way:
        while len(under_way) < AT_ONCE and begun < sessions:
            under_way.append(_story(running.simulator.world))
            begun += 1
        story = rng.choice(under_way)
        notice = next(story, None)
        if notice is None:
            under_way.remove(story)
            continue
        notices += 1
        copies += running.notifier.scatter(notice, rng, duplicate=TWICE, reorder=LATE)
    return Told(notices, copies)
