"""One run: a town, traffic and faults beside each other, then quiet, then the checks."""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.chaos import checker, snapshot
from tests.chaos.checker import Evidence, Kind, Violation
from tests.chaos.faults import Fault, Scene
from tests.chaos.nemesis import Nemesis, schedule
from tests.chaos.town import Town, town
from tests.chaos.weather import Weather
from web.simulator.notifier import Notifier
from web.simulator.stories import Plot
from web.simulator.world import PROVIDERS

DUPLICATES = 0.2
REORDERED = 0.2
SPREAD_SECONDS = 1.0
"""How late a notification may be that others overtake, and its copy."""

SENDERS = 16
SENDER_PATIENCE = 8.0
BACKOFF = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Persona sends eight times within 33 hours; here it takes half a minute, and all providers do as Persona does."""

DRAIN_SECONDS = 180.0
QUIET_SECONDS = 1200.0
"""After an outage of a minute, retries are minutes apart, and one in twenty fails again. Who is not done
after twenty is not slow but stuck."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. Each fault happens `times` times while `count` notifications are sent, `rate` a second."""

    name: str
    seed: int
    count: int
    faults: Sequence[Fault]
    times: int = 1
    rate: float = 40.0
    outage_seconds: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What became of it: one line of the table."""

    name: str
    seed: int
    injected: int = 0
    webhooks: int = 0
    acknowledged: int = 0
    resources: int = 0
    stored: int = 0
    parked: int = 0
    repeats: int = 0
    quiet_seconds: float = 0.0
    deaths: int = 0
    calls: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    logs: Path | None = None

    @property
    def passed(self) -> bool:
        return not self.violations

    def count(self, kind: Kind) -> int:
        return sum(violation.kind is kind for violation in self.violations)


class Traffic:
    """Sends what the stories tell, with dice of its own."""

    def __init__(self, running: Town, notifier: Notifier, plan: Plan) -> None:
        self._world, self._notifier, self._plan = running.ground.simulator.world, notifier, plan
        self._sent = 0
        self._done = False

    def progress(self) -> float:
        """The share that has been sent; 1 at the end even if the last stories were short."""
        return 1.0 if self._done else self._sent / self._plan.count

    def run(self) -> None:
        rng = random.Random(f"traffic/{self._plan.seed}")
        started = time.monotonic()
        send = partial(self._notifier.scatter, duplicate=DUPLICATES, reorder=REORDERED, spread=SPREAD_SECONDS)
        for notice in Plot(self._world, rng, length=self._plan.count):
            send(notice, rng)
            self._sent += 1
            time.sleep(max(0.0, started + self._sent / self._plan.rate - time.monotonic()))
        self._done = True


def run(plan: Plan, logs: Path | None = None) -> Outcome:
    """Do it. The logs of a run that passed are deleted; those of one that failed stay, and the outcome says where."""
    folder = Path(tempfile.mkdtemp(prefix="verisink-chaos-", dir=logs))
    outcome = Outcome(plan.name, plan.seed)
    small_disk = any(fault.name == "disk full" for fault in plan.faults)
    try:
        with (
            town(folder, plan.seed, small_disk=small_disk) as running,
            Notifier(
                running.url,
                running.ground.simulator.credentials,
                threads=SENDERS,
                timeout=SENDER_PATIENCE,
                backoff=dict.fromkeys(PROVIDERS, BACKOFF),
            ) as notifier,
        ):
            _play(plan, running, notifier, outcome)
            _judge(running, notifier, outcome)
    finally:
        outcome.logs = folder
    if outcome.passed:
        shutil.rmtree(folder, ignore_errors=True)
        outcome.logs = None
    else:
        lines = [f"{violation.kind}: {violation.text}" for violation in outcome.violations]
        (folder / "violations.txt").write_text("\n".join([f"{plan.name}, seed {plan.seed}", *lines, *outcome.missed]))
    return outcome


def _play(plan: Plan, running: Town, notifier: Notifier, outcome: Outcome) -> None:
    """Traffic and faults, until both are over and it is quiet again."""
    weather = Weather(running.ground.simulator.faults, running.worker_pids, plan.seed)
    traffic = Traffic(running, notifier, plan)

    def scene(rng: random.Random) -> Scene:
        return Scene(running, weather, rng, plan.outage_seconds)

    nemesis = Nemesis(scene, schedule(plan.seed, plan.faults, plan.times), traffic.progress, plan.seed)
    nemesis.start()
    try:
        traffic.run()
    finally:
        nemesis.join()
    calm = time.monotonic()
    drained = notifier.drain(DRAIN_SECONDS)
    is_quiet = snapshot.quiet(running, QUIET_SECONDS)
    outcome.quiet_seconds = time.monotonic() - calm
    outcome.done, outcome.injected, outcome.missed = dict(nemesis.done), nemesis.done.total(), nemesis.missed
    if not (drained and is_quiet):
        left = snapshot.open_work(running)
        outcome.violations.append(Violation(Kind.OTHER, f"not quiet: drained {drained}, open {left}"))


def _judge(running: Town, notifier: Notifier, outcome: Outcome) -> None:
    statuses = running.close()
    if any(statuses):
        outcome.violations.append(Violation(Kind.OTHER, f"the processes ended with {statuses} when asked to"))
    evidence = snapshot.gather(running, notifier)
    outcome.violations += checker.check(evidence)
    outcome.calls = len(running.ground.simulator.world.calls())
    outcome.deaths = snapshot.deaths(running).total()
    _count(evidence, notifier, outcome)


def _count(evidence: Evidence, notifier: Notifier, outcome: Outcome) -> None:
    wanted, parked = checker.wanted(evidence), checker.parked(evidence)
    receipts = notifier.receipts()
    outcome.webhooks = len(receipts)
    # What got no answer has the name of the error instead.
    outcome.answers = dict(Counter(str(item.status or item.answer) for item in receipts))
    outcome.acknowledged = len({item.delivery for item in evidence.acknowledged})
    outcome.resources = len(wanted)
    outcome.stored = len([ref for ref in wanted if ref in evidence.digests and ref not in parked])
    outcome.parked = len(parked)
    outcome.repeats = len(evidence.told) - len({item.sequence for item in evidence.told})
    if not evidence.acknowledged:
        outcome.violations.append(Violation(Kind.OTHER, "nothing was acknowledged, so nothing was tested"))
