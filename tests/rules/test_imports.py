"""Importing does nothing: no settings, no client, no connection, no thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.source import ROOT, SHIMS, modules

POISON = {
    "VERISINK_CONFIG": "/nonexistent/verisink.toml",
    "VERISINK_DATABASE_URL": "nonsense://",
    "VERISINK_BROKER_URL": "nonsense://",
    "VERISINK_NO_SUCH_SETTING": "1",
}
"""Whoever loads settings while being imported fails at once."""


def what_imports_do(root: Path, names: list[str]) -> list[str]:
    probe = ROOT / "tests" / "rules" / "import_probe.py"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", probe, str(root), *names],
        env={**os.environ, **POISON},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report: list[str] = json.loads(run.stdout)
    return report


def test_importing_does_nothing():
    """Services that build engines and settings when imported can be imported in one way only: their tests patch
    modules, their `--help` needs a database, and a wrong variable is a traceback. Two named shims may; no test
    imports them."""
    names = [module.name for module in modules("worker", "web") if module.path not in SHIMS]

    assert what_imports_do(ROOT, names) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import os\nHOME = os.environ['HOME']\n", "reads the environment"),
        ("import os\nHOME = os.getenv('HOME')\n", "reads the environment"),
        ("import os\nALL = dict(os.environ)\n", "reads the environment"),
        ("import sqlite3\nsqlite3.connect(':memory:').close()\n", "sqlite3.connect"),
        ("import socket\nsocket.socket().bind(('127.0.0.1', 0))\n", "socket.bind"),
        ("import subprocess\nsubprocess.run(['true'])\n", "subprocess.Popen"),
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n", "thread"),
    ],
)
def test_the_rule_can_fail(text, complaint, tmp_path):
    (tmp_path / "busy.py").write_text(text)

    [found, *_] = what_imports_do(tmp_path, ["busy"])

    assert complaint in found


def test_a_library_may_do_as_it_likes(tmp_path):
    (tmp_path / "quiet.py").write_text("import webbrowser\nimport rich.console\n")

    assert what_imports_do(tmp_path, ["quiet"]) == []
