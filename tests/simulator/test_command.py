"""`verisink simulate` from the outside."""

import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from click.testing import CliRunner

from web.simulator import campaign
from web.simulator.command import simulate
from web.simulator.credentials import write_settings
from web.simulator.records import Call
from web.simulator.traffic import Traffic
from web.simulator.world import World

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def settings(tmp_path, port):
    write_settings(tmp_path, f"http://127.0.0.1:{port}")
    return ["--settings", str(tmp_path), "--port", str(port)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(campaign, "READ_SECONDS", 0.2)
    monkeypatch.setattr(campaign, "CONNECT_SECONDS", 0.2)


def run(*args):
    return CliRunner().invoke(simulate, args)


def test_help_shows_an_example():
    result = run("--help")

    assert result.exit_code == 0
    assert "verisink simulate --write-settings .verisink" in result.output


def test_write_settings_says_what_to_do_next(tmp_path):
    directory = tmp_path / "made"
    first, second = run("--write-settings", str(directory)), run("--write-settings", str(directory))

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (directory / "verisink.toml").exists()
    assert f"VERISINK_CONFIG={directory / 'verisink.toml'} verisink up" in first.output
    assert f"verisink simulate --settings {directory}" in first.output
    assert first.output.startswith("Wrote")
    assert second.output.startswith("Kept")


def test_write_settings_explains_what_it_cannot_do(tmp_path):
    (tmp_path / "file").write_text("")

    result = run("--write-settings", str(tmp_path / "file" / "below"))

    assert result.exit_code == 1
    assert "cannot write settings" in result.output


@pytest.mark.parametrize("target", ["http://192.0.2.1:8000", "https://verisink.example"])
def test_remote_targets_are_refused(settings, target):
    result = run(*settings, "--target", target)

    assert result.exit_code == 2
    assert "--allow-remote" in result.output
    assert run(*settings, "--target", "ftp://127.0.0.1").exit_code == 2


def test_missing_settings_are_explained(tmp_path):
    result = run("--settings", str(tmp_path / "none"))

    assert result.exit_code == 1
    assert "verisink simulate --write-settings" in result.output


def test_broken_settings_are_explained(tmp_path):
    (tmp_path / "verisink.toml").write_text("[sources.persona]\n")

    assert "is not what" in run("--settings", str(tmp_path)).output


def test_another_port_than_that_of_the_settings_is_refused(settings):
    result = run(*settings[:2], "--port", "1")

    assert result.exit_code == 1
    assert "use that port" in result.output


def test_a_port_in_use_is_explained(settings, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        result = run(*settings)

    assert result.exit_code == 1
    assert "cannot listen on" in result.output


def test_a_target_that_does_not_answer_is_explained(settings):
    result = run(*settings, "--target", "http://127.0.0.1:9", "--count", "1")

    assert result.exit_code == 1
    assert "Waiting for Verisink at http://127.0.0.1:9" in result.output
    assert "nothing answers" in result.output


def test_each_notification_is_a_line_and_unread_ones_fail(settings, receiver):
    result = run(*settings, "--target", receiver.url, "--count", "12", "--rate", "0", "--seed", "1")

    assert len(receiver.received) == 12
    assert sum(line.startswith("200 ") for line in result.output.splitlines()) == 12
    assert "0 not acknowledged" in result.output
    assert "acknowledged but never read" in result.output
    assert result.exit_code == 1


def test_json_is_one_document_and_success_needs_every_record_read(settings, receiver, monkeypatch):
    monkeypatch.setattr(campaign, "_unread", lambda run: 0)

    result = run(*settings, "--target", receiver.url, "--count", "10", "--rate", "0", "--duplicate", "1", "--json")

    report = json.loads(result.output)
    assert result.exit_code == 0
    assert report["ok"] is True
    assert sum(numbers["notifications"] for numbers in report["providers"].values()) == 10
    assert sum(numbers["attempts"] for numbers in report["providers"].values()) == 20
    assert len(receiver.received) == 20


def test_what_nobody_acknowledges_fails(settings, receiver, monkeypatch):
    monkeypatch.setattr(campaign, "_unread", lambda run: 0)
    receiver.refusals = 1000

    result = run(*settings, "--target", receiver.url, "--count", "1", "--rate", "0", "--json")

    assert result.exit_code == 1
    assert json.loads(result.output)["unacknowledged"] == 1


def test_ctrl_c_ends_it_with_the_summary(settings, receiver, monkeypatch):
    def interrupted(*_args: object) -> Traffic:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "run_traffic", interrupted)

    result = run(*settings, "--target", receiver.url)

    assert result.exit_code == 0
    assert "notifications" in result.output
    assert not [thread for thread in threading.enumerate() if thread.name == "simulator"]


def test_a_record_counts_as_read_only_since_it_is_as_it_was_told_to_be():
    seconds = count()
    world = World(seed=1, clock=lambda: NOON + timedelta(seconds=next(seconds)))
    inquiry = world.create("persona", "inquiry")
    told = {inquiry.ref: inquiry.revision}

    def read() -> None:
        call = Call("persona", "GET", "/", inquiry.ref.external_id, world.now())
        world.end_call(world.begin_call(call), 200)

    assert campaign.unread(world, told) == 1
    read()
    assert campaign.unread(world, told) == 0

    told[inquiry.ref] = world.change(inquiry.ref, "approve").revision
    assert campaign.unread(world, told) == 1
    read()
    assert campaign.unread(world, told) == 0
