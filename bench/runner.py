"""Runs scenarios: contenders alternate within each round, and every figure compares what one round measured.

A machine's speed drifts by a fifth within minutes. What was measured seconds apart drifts together, so the ratio of a
round holds where neither of its sides does; its spread over the rounds says how well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from bench.protocol import Broken, Figure, Sample, Scenario, Unavailable
from bench.stage import Stage
from bench.statistics import Spread, spread
from tests.support.services import ServiceUnavailable

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure, what it was in each round, and its spread."""

    figure: Figure
    rounds: Sequence[float]

    @property
    def spread(self) -> Spread:
        """Median, least and most of the rounds."""
        return spread(self.rounds)

    @property
    def reached(self) -> bool | None:
        """Whether the median is on the right side of the bar; None where there is no bar."""
        return self.figure.bar.reached(self.spread.median) if self.figure.bar else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scenario: its rounds and figures, or why there are none."""

    scenario: Scenario
    rounds: Sequence[Mapping[str, Sample]] = ()
    skipped: str = ""
    broken: str = ""

    @property
    def figures(self) -> list[Measured]:
        """The figures of a scenario that ran."""
        if not self.rounds:
            return []
        return [Measured(figure, [figure.of(samples) for samples in self.rounds]) for figure in self.scenario.figures]

    def medians(self) -> dict[str, dict[str, float]]:
        """Each contender's own numbers, the middle of the rounds."""
        if not self.rounds:
            return {}
        return {
            contender: {metric: spread([found[contender][metric] for found in self.rounds]).median for metric in sample}
            for contender, sample in self.rounds[0].items()
        }


def run(scenario: Scenario, stage: Stage, say: Say) -> Outcome:
    """Run one scenario. What is missing or broken is in the outcome; the others still run."""
    try:
        rounds = _rounds(scenario, stage, say)
        outcome = Outcome(scenario, rounds)
        # A figure that cannot be computed is as broken as a round.
        _ = outcome.figures
    except (ServiceUnavailable, Unavailable) as missing:
        return Outcome(scenario, skipped=str(missing))
    except (Broken, pytest.fail.Exception) as found:
        # What starts and ends processes belongs to the tests, and fails as they do.
        return Outcome(scenario, broken=str(found) or type(found).__name__)
    except Exception as error:  # noqa: BLE001 - whatever a benchmark dies of, the others still run and the report says it
        return Outcome(scenario, broken=f"{type(error).__name__}: {error}")
    return outcome


def _rounds(scenario: Scenario, stage: Stage, say: Say) -> list[dict[str, Sample]]:
    taken: list[dict[str, Sample]] = []
    with scenario.open(stage) as contenders:
        names = list(contenders)
        for number in range(stage.effort.rounds):
            # Each begins a round in turn, so that none always measures in the wake of the same other one.
            first = number % len(names)
            order = names[first:] + names[:first]
            samples = {name: contenders[name]() for name in order}
            taken.append({name: samples[name] for name in names})
            say(f"{scenario.name}: round {number + 1} of {stage.effort.rounds}")
    return taken
