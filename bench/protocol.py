"""What a scenario is: the words that the runner, the report and every scenario share.

To add one, write a module in `bench/scenarios` with a `Scenario`, and name it in `bench/scenarios/registry.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from bench.stage import Stage

Sample: TypeAlias = Mapping[str, float]
"""What one round of one contender measured: a number for each metric, whose name ends with its unit."""

Round: TypeAlias = Callable[[], Sample]
Contenders: TypeAlias = Mapping[str, Round]
"""One round of each contender. Each is called once in every round, and never two at a time."""


class Unavailable(Exception):
    """A scenario cannot run on this machine; the message says what is missing."""


class Broken(Exception):
    """A benchmark found something wrong: a wrong count, an error for an answer, a process that died."""


class How(StrEnum):
    """How the two sides of a figure are compared. Both sides are always of the same round."""

    RATIO = "ratio"
    DIFFERENCE = "difference"
    VALUE = "value"
    """No comparison: there is one side only."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should reach."""

    limit: float
    at_least: bool = True

    def reached(self, value: float) -> bool:
        """Whether a value is on the right side of it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Side:
    """One contender's number."""

    contender: str
    metric: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    label: str
    side: Side
    other: Side | None = None
    how: How = How.RATIO
    bar: Bar | None = None

    def of(self, samples: Mapping[str, Sample]) -> float:
        """The figure in one round. Raises Broken where there is nothing to divide by."""
        value = samples[self.side.contender][self.side.metric]
        if self.other is None:
            return value
        against = samples[self.other.contender][self.other.metric]
        if self.how is How.DIFFERENCE:
            return value - against
        if not against:
            raise Broken(f"{self.label}: {self.other.contender} measured 0 for {self.other.metric}")
        return value / against


@dataclass(frozen=True, slots=True)
class Scenario:
    """One benchmark. `open` prepares, yields the contenders, and tidies up whatever happens."""

    name: str
    measures: str
    """A sentence or two for the table: what is measured, and what would be easy to misunderstand."""

    figures: Sequence[Figure]
    open: Callable[["Stage"], AbstractContextManager[Contenders]]

    optional: bool = False
    """It needs what no machine has to give, so to skip it is never a failure."""


def ratio(label: str, side: tuple[str, str], other: tuple[str, str], bar: Bar | None = None) -> Figure:
    """One number divided by another; each side is a contender and a metric."""
    return Figure(label, Side(*side), Side(*other), How.RATIO, bar)


def difference(label: str, side: tuple[str, str], other: tuple[str, str], bar: Bar | None = None) -> Figure:
    """One number minus another."""
    return Figure(label, Side(*side), Side(*other), How.DIFFERENCE, bar)


def value(label: str, side: tuple[str, str], bar: Bar | None = None) -> Figure:
    """A number as it is."""
    return Figure(label, Side(*side), None, How.VALUE, bar)
