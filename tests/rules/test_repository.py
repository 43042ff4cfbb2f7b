"""The repository works on any machine: it names no registry, and no place that exists on one computer only."""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.rules.source import ROOT, tracked_files

LOCKS = ["requirements.lock", "requirements-dev.lock"]

COMMON_PLACES = frozenset({"/", "/app", "/home", "/mnt", "/opt", "/srv", "/tmp", "/usr", "/usr/local", "/usr/src"})
"""Where programs live on many machines: a document may name these."""

HOMES = re.compile(r"(?<![\w.~-])/(?:home|Users)/[A-Za-z]\w*/|(?<![\w.~-])/root/")

# Put together here, because this file is one of those that may not name them.
HOSTS = (".".join(("pypi", "org")), ".".join(("pythonhosted", "org")), ".".join(("registry", "npmjs")))

REGISTRIES = re.compile(
    "|".join([*(rf"\b{re.escape(host)}" for host in HOSTS), r"\b(?:extra-)?index-url\b", "find-links"])
)


def lock_complaints(text: str) -> list[str]:
    """Lines of a lock file that are neither a pinned name with its marker nor a hash."""
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*==[\w.!+]+(?: ; [\w .'<>=!()]+)? \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
    return [line for line in text.splitlines() if not (pin.fullmatch(line) or digest.fullmatch(line))]


def machine_places() -> list[str]:
    """Folders of this very machine: the checkout, what holds it, and where Python and the user live."""
    candidates = [ROOT, ROOT.parent, Path.home(), Path(sys.base_prefix)]
    return sorted({str(path) for path in candidates} - COMMON_PLACES)


def leaks(text: str, places: Iterable[str]) -> list[str]:
    found = [match.group() for pattern in (HOMES, REGISTRIES) for match in pattern.finditer(text)]
    for place in places:
        found += re.findall(rf"(?<![\w.~-]){re.escape(place)}(?![\w-])", text)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_name_no_host(name):
    """A lock file that was made behind a mirror, and says so, installs nowhere else."""
    assert lock_complaints((ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_hold_what_the_project_asks_for(name):
    """A dependency added by hand and not locked is missing exactly where nobody tries: in a fresh environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = project["project"]["dependencies"] + groups["build"] + (groups["dev"] if "dev" in name else [])
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in wanted}
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE))

    assert names - locked == set()


def test_both_lock_files_agree():
    """The tests must run what production runs."""
    runtime, everything = (
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE)) for name in LOCKS
    )

    assert runtime - everything == set()


def test_dependencies_have_an_upper_bound():
    """A new major version of a library is a decision, not something that happens to whoever installs on that day."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    requirements = project["project"]["dependencies"] + groups["build"] + groups["dev"]

    assert [requirement for requirement in requirements if "<" not in requirement.split(";")[0]] == []


def test_nothing_names_this_machine():
    """A path of the author's computer in a script works for the author only, and tells where the author lives."""
    places = machine_places()
    myself = Path(__file__).resolve()
    found = {}
    for path in tracked_files():
        data = path.read_bytes()
        # Binary files have no lines, and this one holds the examples below.
        if b"\0" not in data and path != myself and (here := leaks(data.decode(errors="replace"), places)):
            found[path.relative_to(ROOT).as_posix()] = sorted(set(here))

    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "cd /home/ada/project",
        "open('/Users/ada/x')",
        "see /root/notes",
        "--extra-index-url=somewhere",
        f"https://files.{HOSTS[1]}/x.whl",
        "data in /data/checkout/file",
    ],
)
def test_the_rule_about_places_can_fail(text):
    assert leaks(text, ["/data/checkout"]) != []


@pytest.mark.parametrize("text", ["/usr/bin/env", "https://example.com/home/ada/", "/data/checkouts", "~/root/x"])
def test_common_places_may_be_named(text):
    assert leaks(text, ["/data/checkout"]) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://mirror.example/simple",
        "flask @ https://mirror.example/flask.whl",
        "./wheels/flask.whl",
        "flask>=3",
        "# from a mirror",
    ],
)
def test_the_rule_about_lock_files_can_fail(line):
    good = "flask==3.1.3 ; python_full_version < '3.13' \\\n    --hash=sha256:" + "0" * 64 + "\n"

    assert lock_complaints(good) == []
    assert lock_complaints(good + line) == [line]
