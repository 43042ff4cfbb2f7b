"""A real browser, which loads a page, runs its scripts, and says what became of it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import ServiceUnavailable

NAMES = ("chromium", "chromium-browser", "google-chrome")

LOADING_MILLISECONDS = 20_000
"""Of the page's own clock, which runs ahead while nothing is loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page after its scripts have run, and what the browser had to say about it."""

    html: str
    complaints: list[str]


def load(url: str, folder: Path) -> Loaded:
    """Load a page. `folder` is for what the browser keeps. Raises ServiceUnavailable where there is no browser."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise ServiceUnavailable("Chromium is not installed (Debian: apt-get install chromium)")
    options = [
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        # Containers run as root, and offer no sandbox.
        *(["--no-sandbox"] if os.getuid() == 0 else []),
        f"--user-data-dir={folder}",
        f"--virtual-time-budget={LOADING_MILLISECONDS}",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    run = subprocess.run([program, *options, url], capture_output=True, text=True, timeout=90, check=True)
    return Loaded(run.stdout, [line for line in run.stderr.splitlines() if ":CONSOLE" in line])
