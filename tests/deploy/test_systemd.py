"""The systemd units: what systemd's own checker says of them, and what they promise."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.deploy.files import DEPLOY, WORKER_GRACE
from web.supervising import WEB_GRACE_SECONDS

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAM = "/opt/verisink/bin/verisink"
MOST_EXPOSED = 20
"""Tenths of a point, on systemd's scale of ten."""


@pytest.fixture
def systemd() -> None:
    """systemd's own checker, which is excused where nobody installed it, and not in continuous integration."""
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd-analyze is not installed")


def unit(name: str) -> Mapping[str, list[str]]:
    """The values of each key of a unit. systemd lets keys repeat, which Python's reader does not."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / f"verisink-{name}.service").read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_these_are_the_units():
    assert [path.stem for path in UNITS] == ["verisink-migrate", "verisink-up", "verisink-web", "verisink-worker"]


@pytest.mark.usefixtures("systemd")
def test_systemd_understands_every_line(tmp_path: Path):
    for path in UNITS:
        # It looks whether the program is there.
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(PROGRAM, "/bin/true"), "utf-8")
    copies = [str(tmp_path / path.name) for path in UNITS]

    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True, timeout=60
    )

    # Of the machine's own units it may say something as well.
    assert [line for line in found.stderr.splitlines() if "verisink" in line] == []


@pytest.mark.usefixtures("systemd")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_it_hardened(path: Path):
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}", str(path)]

    found = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", ["up", "web", "worker", "migrate"])
def test_each_runs_its_command_as_nobody_else_and_writes_in_one_place(name: str):
    own = unit(name)
    assert own["ExecStart"] == [f"{PROGRAM} {name}"]
    # `notify` would wait for a word that nobody says.
    assert own["Type"] == ["oneshot" if name == "migrate" else "exec"]
    assert (own["User"], own["ProtectSystem"], own["StateDirectory"]) == (["verisink"], ["strict"], ["verisink"])
    assert not {"ReadWritePaths", "BindPaths"} & own.keys()
    assert own["NoNewPrivileges"] == ["yes"]
    assert "@system-service" in own["SystemCallFilter"]


@pytest.mark.parametrize(
    ("name", "grace"), [("up", WORKER_GRACE), ("web", WEB_GRACE_SECONDS), ("worker", WORKER_GRACE)]
)
def test_systemd_waits_for_longer_than_it_takes_to_end(name: str, grace: float):
    own = unit(name)
    assert int(own["TimeoutStopSec"][0]) > grace
    # The signal is for the supervisor: it passes it on, and would take a child's end for a death.
    assert own["KillMode"] == ["mixed"]
    assert own["Restart"] == ["always"]


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_migration_is_first(name: str):
    # Wanted and not required: a migration that fails for want of a database must not keep receivers from starting.
    assert "verisink-migrate.service" in unit(name)["Wants"][0]
    assert "Requires" not in unit(name)
    assert "verisink-migrate.service" in unit(name)["After"][0]
