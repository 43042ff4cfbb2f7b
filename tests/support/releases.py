"""Earlier releases as their users have them: the wheel that was shipped, unpacked, run by today's Python."""

import sys
import zipfile
from pathlib import Path

from tests.support.processes import ROOT, Child, Installation

WHEELS = ROOT / "tests" / "releases"


class Release:
    """The code of an earlier release in a folder of its own. Its libraries are those that are installed here."""

    def __init__(self, version: str, folder: Path) -> None:
        self.folder = folder / f"verisink-{version}"
        with zipfile.ZipFile(WHEELS / f"verisink-{version}-py3-none-any.whl") as wheel:
            wheel.extractall(self.folder)

    def start(self, installation: Installation, *arguments: str, **environ: str) -> Child:
        """`verisink <arguments>` of this release. Started in its folder, it and its children find its modules first."""
        command = [sys.executable, "-m", "web.main", *arguments]
        return installation.start_program_in(self.folder, f"old-{arguments[0]}", command, **environ)

    def revisions(self) -> list[str]:
        """The migrations of this release, oldest first."""
        return sorted(path.name for path in (self.folder / "migrations" / "versions").glob("*.py"))
