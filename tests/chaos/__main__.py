"""`python -m tests.chaos`: the long runs, and any run that somebody wants to see again."""

import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.run import Outcome, Plan, run
from tests.chaos.table import table

ALL_TOGETHER = "all together"
SEEDS = (1, 2, 3)
COUNT = 5000
COUNT_ALONE = 600
TIMES = 2
TIMES_ALONE = 3
RATE_ALONE = 15.0
"""Webhooks a second. Six hundred take 40 seconds then, so that three faults of ten seconds still meet traffic."""

SHORT_COUNT = 500
SHORT_OUTAGE_SECONDS = 4.0


def short_plan(seed: int) -> Plan:
    """The run that is part of the tests: the main faults, once each."""
    faults = [fault for fault in FAULTS if fault.main]
    return Plan("main faults", seed, SHORT_COUNT, faults, rate=25.0, outage_seconds=SHORT_OUTAGE_SECONDS)


def plans(faults: Sequence[Fault], seeds: Sequence[int], counts: tuple[int, int]) -> Iterator[Plan]:
    """All faults together with each seed, if all are wanted; then each alone. A count of 0 leaves a part out."""
    together, alone = counts
    if len(faults) == len(FAULTS) and together:
        yield from (Plan(ALL_TOGETHER, seed, together, faults, TIMES) for seed in seeds)
    if alone:
        for fault in faults:
            yield from (Plan(fault.name, seed, alone, [fault], TIMES_ALONE, RATE_ALONE) for seed in seeds)


@click.command()
@click.option("--seed", "seeds", type=int, multiple=True, help="Which schedules; by default 1, 2 and 3.")
@click.option("--count", default=COUNT, show_default=True, help="Webhooks with all faults together; 0 for none.")
@click.option("--alone", default=COUNT_ALONE, show_default=True, help="Webhooks with each fault alone; 0 for none.")
@click.option(
    "--fault", "names", type=click.Choice([fault.name for fault in FAULTS]), multiple=True, help="Only these, alone."
)
@click.option("--short", is_flag=True, help="The short run that is part of the tests.")
@click.option("--logs", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where logs are kept.")
def main(seeds: Sequence[int], count: int, alone: int, names: Sequence[str], short: bool, logs: Path | None) -> None:
    """Break everything, and see whether anything acknowledged is lost. Exits 1 if any promise was broken."""
    # So that a run that is ended this way takes its servers with it.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    seeds = seeds or SEEDS
    wanted = [short_plan(seed) for seed in seeds] if short else list(plans(chosen, seeds, (count, alone)))
    outcomes = []
    for plan in wanted:
        outcomes.append(run(plan, logs))
        report(outcomes[-1])
    click.echo(f"\n{table(outcomes)}")
    sys.exit(0 if all(outcome.passed for outcome in outcomes) else 1)


def report(outcome: Outcome) -> None:
    """Say at once how a run went; the whole takes long."""
    verdict = "kept every promise" if outcome.passed else f"BROKE {len(outcome.violations)}, see {outcome.logs}"
    click.echo(
        f"{outcome.name}, seed {outcome.seed}: {verdict}; {outcome.injected} faults, {outcome.deaths} deaths, "
        f"{outcome.acknowledged} acknowledged, quiet after {outcome.quiet_seconds:.0f} s"
    )
    answers = ", ".join(f"{count} {answer}" for answer, count in sorted(outcome.answers.items()))
    click.echo(f"    the senders were answered: {answers}")
    for violation in outcome.violations[:10]:
        click.echo(f"    {violation.kind}: {violation.text}")
    for missed in outcome.missed:
        click.echo(f"    found nothing to strike: {missed}")


if __name__ == "__main__":
    main()
