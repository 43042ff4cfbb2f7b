"""The arithmetic of the figures, kept apart so that it can be tested by itself."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of several rounds, and how far they lie apart."""

    median: float
    least: float
    most: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of an ordered sequence do not exceed; 0 if it is empty."""
    if not ordered:
        return 0.0
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most. Raises ValueError if there is nothing to look at."""
    if not values:
        raise ValueError("no round was measured")
    return Spread(statistics.median(values), min(values), max(values))
