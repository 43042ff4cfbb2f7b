"""`python -m bench`: measure Verisink beside what it is compared with, on this machine, now."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from bench.machine import Machine, look
from bench.protocol import Scenario
from bench.report import as_json, as_text, write
from bench.runner import Outcome, run
from bench.scenarios.registry import SCENARIOS
from bench.stage import FULL, QUICK, Stage, open_stage
from tests.support.services import ServiceUnavailable

NAMES = [scenario.name for scenario in SCENARIOS]


@click.command()
@click.option("--quick", is_flag=True, help="One short round: shows that everything works, and nothing else.")
@click.option("--rounds", type=click.IntRange(1), help="How many rounds; by default 5, or 1 with --quick.")
@click.option(
    "--concurrency", type=click.IntRange(1, 256), default=FULL.concurrency, show_default=True,
    help="Threads of each of Verisink's worker processes.",
)  # fmt: skip
@click.option("--rows", type=click.IntRange(10_000), help="Deliveries in the larger database of `growth`.")
@click.option("--only", "names", type=click.Choice(NAMES), multiple=True, help="Only this scenario; may be repeated.")
@click.option("--list", "listing", is_flag=True, help="Say what there is, and measure nothing.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write everything.")
@click.option(
    "--write", "page", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The page whose tables are refreshed.",
)  # fmt: skip
def main(  # noqa: PLR0913 - click hands over each option as an argument
    quick: bool,
    rounds: int | None,
    concurrency: int,
    rows: int | None,
    names: Sequence[str],
    listing: bool,
    json_path: Path | None,
    page: Path | None,
) -> None:
    """Measure, and print tables. Exits 1 if a benchmark broke, never because a figure is low."""
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    if listing:
        for scenario in chosen:
            click.echo(f"{scenario.name:12} {scenario.measures}")
        return
    # So that a run that is ended this way takes its servers with it.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    effort = QUICK if quick else FULL
    effort = replace(effort, rounds=rounds or effort.rounds, concurrency=concurrency, rows=rows or effort.rows)
    with open_stage(effort) as stage:
        machine = _machine(stage)
        click.echo(f"{machine.line()}\n")
        # Where somebody else kept their figures is of no use to a reader.
        options = [item for item in sys.argv[1:] if item not in ("--json", str(json_path))]
        command = " ".join(["python -m bench", *options])
        outcomes: list[Outcome] = []
        for scenario in chosen:
            outcomes.append(_run(scenario, stage))
            # After each, so that a run that is cut off has not measured in vain.
            if json_path:
                json_path.write_text(json.dumps(as_json(machine, command, outcomes), indent=1) + "\n", "utf-8")
            if page:
                write(page, machine, command, outcomes)
    sys.exit(_status(outcomes))


def _machine(stage: Stage) -> Machine:
    try:
        return look(stage.postgres, stage.redis, stage.postgres.home)
    except ServiceUnavailable:
        return look(None, None, None)


def _run(scenario: Scenario, stage: Stage) -> Outcome:
    outcome = run(scenario, stage, lambda line: click.echo(line, err=True))
    click.echo(f"{as_text(outcome)}\n")
    return outcome


def _status(outcomes: Sequence[Outcome]) -> int:
    required = os.environ.get("VERISINK_REQUIRE_SERVICES", "") == "1"
    failures = [f"{found.scenario.name}: broken: {found.broken}" for found in outcomes if found.broken]
    if required:
        failures += [
            f"{found.scenario.name}: skipped: {found.skipped}"
            for found in outcomes
            if found.skipped and not found.scenario.optional
        ]
    for failure in failures:
        click.echo(failure, err=True)
    return 1 if failures else 0


if __name__ == "__main__":
    main()
