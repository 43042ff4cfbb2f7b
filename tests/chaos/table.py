"""The table that a chaos run prints, as Markdown, so that it can be put into a document as it is."""

from collections.abc import Sequence

from tests.chaos.checker import Kind
from tests.chaos.run import Outcome

COLUMNS = (
    "fault",
    "seeds",
    "times",
    "acknowledged",
    "resources",
    "stored",
    "parked",
    "lost",
    "duplicate",
    "stale",
    "other",
    "sink repeats",
    "calls",
    "seconds to quiet",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each name; runs of the same name with several seeds are added up."""
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))
    lines = [_line([outcome for outcome in outcomes if outcome.name == name]) for name in names]
    widths = [max(len(line[column]) for line in (COLUMNS, *lines)) for column in range(len(COLUMNS))]
    ruler = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    shown = [_pad(COLUMNS, widths), ruler, *(_pad(line, widths) for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def _line(runs: Sequence[Outcome]) -> list[str]:
    sums = (
        sum(run.injected for run in runs),
        sum(run.acknowledged for run in runs),
        sum(run.resources for run in runs),
        sum(run.stored for run in runs),
        sum(run.parked for run in runs),
        *(sum(run.count(kind) for run in runs) for kind in Kind),
        sum(run.repeats for run in runs),
        sum(run.calls for run in runs),
    )
    slowest = max(run.quiet_seconds for run in runs)
    seeds = ", ".join(str(run.seed) for run in runs)
    return [runs[0].name, seeds, *(f"{value:,}" for value in sums), f"{slowest:.0f}"]


def _pad(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
