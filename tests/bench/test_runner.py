"""The runner with scenarios that cost nothing: alternation, figures, what is missing, what breaks, and the tables."""

import json
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from click.testing import CliRunner

from bench import __main__ as command
from bench.machine import Machine, look
from bench.protocol import Bar, Broken, Scenario, Unavailable, ratio
from bench.report import as_json, as_text, refresh, write
from bench.runner import run
from bench.stage import Effort, Stage
from tests.support.services import ServiceUnavailable

MACHINE = Machine("a CPU", 2, "6.1", "3.11", "18", "7", "ext4", "gunicorn", 0.5, "2026-01-02 03:04 UTC", "abc123")
RATIO = ratio("ours ÷ reference", ("ours", "rate_per_s"), ("reference", "rate_per_s"), Bar(0.3))


def scenario(contenders, log=None, name="example", figures=(RATIO,)):
    @contextmanager
    def opened(_stage):
        yield contenders
        if log is not None:
            log.append("tidied up")

    return Scenario(name, "Something.", figures, opened)


def failing(error):
    def opened(_stage):
        raise error

    return Scenario("example", "Something.", (RATIO,), opened)


def outcome_of(chosen, tmp_path, rounds=3):
    with ExitStack() as stack:
        return run(chosen, Stage(Effort(rounds, 0.1), tmp_path, stack), lambda _line: None)


def example(tmp_path, name="example"):
    rates = {"reference": iter([100.0, 200.0, 50.0]), "ours": iter([40.0, 50.0, 20.0])}
    contenders = {who: lambda who=who: {"rate_per_s": next(rates[who])} for who in rates}
    return outcome_of(scenario(contenders, name=name), tmp_path)


def test_ratios_are_of_one_round_and_not_of_medians(tmp_path):
    [found] = example(tmp_path).figures

    assert found.rounds == [0.4, 0.25, 0.4]
    assert (found.spread.median, found.spread.least, found.spread.most) == (0.4, 0.25, 0.4)
    assert found.reached is True


def test_contenders_alternate_and_take_turns_in_beginning(tmp_path):
    log: list[str] = []

    def noted(name):
        log.append(name)
        return {"rate_per_s": 1.0}

    contenders = {name: partial(noted, name) for name in ("reference", "ours")}

    outcome_of(scenario(contenders, log), tmp_path)

    assert log == ["reference", "ours", "ours", "reference", "reference", "ours", "tidied up"]


@pytest.mark.parametrize("error", [ServiceUnavailable("no PostgreSQL"), Unavailable("no PostgreSQL")])
def test_what_is_missing_skips_the_scenario(error, tmp_path):
    outcome = outcome_of(failing(error), tmp_path)

    assert (outcome.skipped, outcome.broken, outcome.figures) == ("no PostgreSQL", "", [])
    assert "skipped: no PostgreSQL" in as_text(outcome)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Broken("3 rows are missing"), "3 rows are missing"),
        (pytest.fail.Exception("web-1 ended with 1"), "web-1 ended with 1"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_what_breaks_is_said(error, said, tmp_path):
    outcome = outcome_of(failing(error), tmp_path)

    assert outcome.broken == said
    assert f"BROKEN: {said}" in as_text(outcome)


def test_a_figure_that_cannot_be_computed_breaks_the_scenario(tmp_path):
    nothing = {"ours": lambda: {"rate_per_s": 1.0}, "reference": lambda: {"rate_per_s": 0.0}}

    assert "reference measured 0" in outcome_of(scenario(nothing), tmp_path).broken


def test_the_exit_status_excuses_what_is_missing_unless_told_otherwise(tmp_path, monkeypatch):
    good, skipped = example(tmp_path), outcome_of(failing(Unavailable("no")), tmp_path)
    broken = outcome_of(failing(Broken("bad")), tmp_path)

    assert command._status([good, skipped]) == 0
    assert command._status([good, broken]) == 1
    monkeypatch.setenv("VERISINK_REQUIRE_SERVICES", "1")
    assert command._status([good]) == 0
    assert command._status([good, skipped]) == 1


def test_the_terminal_shows_figures_and_each_contender(tmp_path):
    text = as_text(example(tmp_path))

    assert "ours ÷ reference  0.4     0.25 … 0.4    ≥ 0.3  yes" in text
    assert "rate_per_s  100        40" in text


def test_json_has_the_rounds_as_they_were(tmp_path):
    document = json.loads(json.dumps(as_json(MACHINE, "python -m bench", [example(tmp_path)])))

    assert document["machine"]["cpu"] == "a CPU"
    [found] = document["scenarios"]
    assert found["rounds"][1] == {"reference": {"rate_per_s": 200.0}, "ours": {"rate_per_s": 50.0}}
    assert found["figures"][0]["rounds"] == [0.4, 0.25, 0.4]


def test_a_page_gets_new_tables_and_keeps_the_rest(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(
        "# Speed\n\nWords.\n\n<!-- bench example: measured, do not edit -->\nold\n<!-- bench example: end -->\nMore.\n"
    )
    write(page, MACHINE, "python -m bench", [example(tmp_path), example(tmp_path, name="another")])

    first = page.read_text()

    assert first.startswith("# Speed\n\nWords.\n\n<!-- bench example")
    assert "old" not in first
    assert "| ours ÷ reference | 0.4 | 0.25 … 0.4 | ≥ 0.3 | yes |" in first
    assert "a CPU, 2 cores" in first
    assert first.index("bench example: end") < first.index("More.") < first.index("### another")
    # A second time changes nothing but what was measured.
    assert refresh(first, MACHINE, "python -m bench", [example(tmp_path), example(tmp_path, name="another")]) == first


def test_a_page_keeps_the_table_of_what_did_not_run(tmp_path):
    page = "<!-- bench example: measured, do not edit -->\nold\n<!-- bench example: end -->\n"

    assert refresh(page, MACHINE, "x", [outcome_of(failing(Unavailable("no")), tmp_path)]) == page
    with pytest.raises(ValueError, match="does not end"):
        refresh(page.partition("old")[0], MACHINE, "x", [example(tmp_path)])


def test_this_machine_has_a_line():
    machine = look(None, None, None)

    assert machine.cores >= 1
    assert f"{machine.cores} cores" in machine.line()


def test_the_list_names_every_scenario():
    shown = CliRunner().invoke(command.main, ["--list"])

    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()] == [*command.NAMES]
    assert {"ack", "ack-idle", "overload", "results"} <= set(command.NAMES)
