"""The short chaos run: real processes, the main faults beside real traffic, and every promise checked at the end."""

import pytest

from tests.chaos.__main__ import SHORT_COUNT, short_plan
from tests.chaos.run import run
from tests.chaos.table import table

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis]


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_whatever_dies(tmp_path):
    plan = short_plan(seed=20)

    outcome = run(plan, tmp_path)

    assert outcome.violations == [], f"{outcome.violations[:10]}\nlogs: {outcome.logs}\n{table([outcome])}"
    # What was meant to go wrong did, or the run has shown nothing.
    assert len(outcome.done) + len(outcome.missed) == len(plan.faults)
    assert outcome.injected >= len(plan.faults) - 3
    assert outcome.deaths >= 2
    assert outcome.acknowledged > SHORT_COUNT / 2, outcome.answers
    assert outcome.stored > 100
