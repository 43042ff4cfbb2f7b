"""Imports modules by name in a process of its own, and reports as JSON what they did besides being defined.

What a library does while it is imported is that library's affair; what counts is what the project's own code does.
"""

import importlib
import json
import os
import sys
import threading
from types import FrameType

WATCHED = (
    "os.system",
    "shutil.",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "sqlite3.connect",
    "subprocess.Popen",
)


def culprit(frame: FrameType | None, root: str) -> str:
    """The file of the project that caused this, or nothing: an import between the two puts it on the library."""
    while frame:
        filename = frame.f_code.co_filename
        if filename.startswith("<frozen importlib") or "site-packages" in filename:
            return ""
        if filename.startswith(root):
            return f"{filename.removeprefix(root)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class WatchedEnvironment(dict[str, str]):
    """An environment that tells who reads it."""

    def __init__(self, values: dict[str, str], root: str, report: list[str]) -> None:
        super().__init__(values)
        self._root = root
        self._report = report

    def _read(self) -> None:
        if where := culprit(sys._getframe(2), self._root):
            self._report.append(f"{where}: reads the environment")

    def __getitem__(self, key: str) -> str:
        self._read()
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._read()
        return super().__contains__(key)

    def get(self, key, default=None):
        self._read()
        return super().get(key, default)

    def items(self):
        self._read()
        return super().items()

    def keys(self):
        self._read()
        return super().keys()

    def __iter__(self):
        self._read()
        return super().__iter__()

    def copy(self):
        self._read()
        return super().copy()


def probe(root: str, names: list[str]) -> list[str]:
    """What the modules did while they were imported."""
    report: list[str] = []

    def audit(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(WATCHED) and (where := culprit(sys._getframe(1), root)):
            report.append(f"{where}: {event}")

    sys.addaudithook(audit)
    # Replacing the object leaves the process's real environment alone, and here that is the point.
    os.environ = WatchedEnvironment(dict(os.environ), root, report)  # type: ignore[assignment]  # noqa: B003
    for name in names:
        importlib.import_module(name)
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return report + [f"thread started: {name}" for name in threads]


if __name__ == "__main__":
    project_root, *module_names = sys.argv[1:]
    # Not beside this file, whose neighbours might be taken for libraries.
    sys.path[0] = project_root
    sys.stdout.write(json.dumps(probe(project_root.rstrip("/") + "/", module_names)))
