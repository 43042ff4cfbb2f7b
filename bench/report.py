"""What a run found, as a table for the terminal, as Markdown for the documentation, and as JSON with everything."""

from collections.abc import Sequence
from pathlib import Path

from bench.machine import Machine
from bench.protocol import How
from bench.runner import Measured, Outcome

BEGIN = "<!-- bench {name}: measured, do not edit -->"
END = "<!-- bench {name}: end -->"


def number(value: float) -> str:
    """Three digits that mean something; whole numbers above a thousand."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table whose columns line up."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def figure_rows(measured: Sequence[Measured]) -> list[list[str]]:
    """One row for each figure: median, spread, bar, and whether the median reaches it."""
    rows = []
    for found in measured:
        middle = found.spread
        bar = str(found.figure.bar) if found.figure.bar else ""
        verdict = {None: "", True: "yes", False: "no"}[found.reached]
        how = " (difference)" if found.figure.how is How.DIFFERENCE else ""
        span = f"{number(middle.least)} … {number(middle.most)}"
        rows.append([found.figure.label + how, number(middle.median), span, bar, verdict])
    return rows


FIGURE_HEAD = ["figure", "median", "least … most", "bar", "reached"]


def sample_table(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Each contender's own numbers; the contenders are the columns."""
    medians = outcome.medians()
    metrics = list(dict.fromkeys(metric for sample in medians.values() for metric in sample))
    rows = [
        [metric, *(number(sample[metric]) if metric in sample else "" for sample in medians.values())]
        for metric in metrics
    ]
    return ["median of", *medians], rows


def as_text(outcome: Outcome) -> str:
    """One scenario for the terminal."""
    title = f"{outcome.scenario.name}: {outcome.scenario.measures}"
    if outcome.broken:
        return f"{title}\nBROKEN: {outcome.broken}"
    if outcome.skipped:
        return f"{title}\nskipped: {outcome.skipped}"
    figures = grid(FIGURE_HEAD, figure_rows(outcome.figures))
    return f"{title}\n\n{figures}\n\n{grid(*sample_table(outcome))}"


def as_json(machine: Machine, command: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Everything, the rounds as they were measured included."""
    return {
        "machine": machine.as_json(),
        "command": command,
        "scenarios": [
            {
                "name": outcome.scenario.name,
                "measures": outcome.scenario.measures,
                "skipped": outcome.skipped or None,
                "broken": outcome.broken or None,
                "figures": [_figure(found) for found in outcome.figures],
                "rounds": [dict(samples) for samples in outcome.rounds],
            }
            for outcome in outcomes
        ],
    }


def _figure(found: Measured) -> dict[str, object]:
    middle = found.spread
    return {
        "label": found.figure.label,
        "how": found.figure.how.value,
        "median": middle.median,
        "least": middle.least,
        "most": middle.most,
        "rounds": list(found.rounds),
        "bar": str(found.figure.bar) if found.figure.bar else None,
        "reached": found.reached,
    }


def refresh(page: str, machine: Machine, command: str, outcomes: Sequence[Outcome]) -> str:
    """The page with the tables of these scenarios replaced between their markers; a new one is put at the end. What did
    not run keeps the table that it has, with the date and machine below it."""
    for outcome in outcomes:
        if not outcome.rounds:
            continue
        name = outcome.scenario.name
        begin, end = BEGIN.format(name=name), END.format(name=name)
        block = f"{begin}\n{_section(outcome, machine, command)}\n{end}"
        before, found, rest = page.partition(begin)
        if not found:
            page = f"{page.rstrip()}\n\n### {name}\n\n{block}\n"
            continue
        _, closed, after = rest.partition(end)
        if not closed:
            raise ValueError(f"the page begins the table of {name} and does not end it")
        page = before + block + after
    return page


def _section(outcome: Outcome, machine: Machine, command: str) -> str:
    head, rows = sample_table(outcome)
    return "\n\n".join(
        [
            outcome.scenario.measures,
            markdown(FIGURE_HEAD, figure_rows(outcome.figures)),
            markdown(head, rows),
            f"`{command}`, {len(outcome.rounds)} rounds. {machine.line()}.",
        ]
    )


def write(path: Path, machine: Machine, command: str, outcomes: Sequence[Outcome]) -> None:
    """Refresh the tables of a page in place."""
    path.write_text(refresh(path.read_text("utf-8"), machine, command, outcomes), "utf-8")
