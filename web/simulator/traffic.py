"""Plays stories at a steady pace and sends what they tell."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from web.simulator.notifications import Notice
from web.simulator.notifier import Notifier
from web.simulator.stories import Plot
from web.simulator.world import World
from worker.clock import monotonic

DRAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a run has sent, without the bodies.

    `copies` counts duplicates too; `drained` is false if something was still on its way.
    """

    notices: tuple[Notice, ...]
    copies: int
    seconds: float
    drained: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How many notifications to send and how they travel. `count` None: until stopped. `rate` is per second, 0 means
    as fast as it goes. `duplicate` and `reorder` are the shares that go twice, or late; duplicates come on top."""

    count: int | None
    rate: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    seed: int = 0


def run_traffic(
    world: World,
    notifier: Notifier,
    plan: Plan,
    *,
    stop: threading.Event | None = None,
    on_sent: Callable[[Notice], None] | None = None,
) -> Traffic:
    """Tell stories until the plan is fulfilled or `stop` is set, then wait until all has arrived or was given up."""
    stop, rng = stop or threading.Event(), random.Random(plan.seed)
    started = monotonic()
    notices: list[Notice] = []
    copies = 0
    for notice in Plot(world, rng, length=plan.count):
        notices.append(notice.without_body())
        copies += notifier.scatter(notice, rng, duplicate=plan.duplicate, reorder=plan.reorder)
        if on_sent is not None:
            on_sent(notice)
        due = started + len(notices) / plan.rate if plan.rate else 0.0
        if stop.wait(max(0.0, due - monotonic())):
            break
    drained = notifier.drain(1.0 if stop.is_set() else DRAIN_SECONDS)
    return Traffic(tuple(notices), copies, monotonic() - started, drained)
