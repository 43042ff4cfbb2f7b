"""Modules say what they are for, packages stay empty, and doubles are fakes rather than mocks."""

import ast
import re

from tests.rules.source import Module, modules, modules_of_tests, source_modules

MAX_DOCSTRING_LINES = 6
DRAWN = frozenset({"worker/errors.py"})
"""Its docstring draws the whole tree of exceptions."""

MOCKS_PER_TEST = 0.1


def undocumented(modules: list[Module]) -> list[str]:
    return [module.path for module in modules if not ast.get_docstring(module.tree)]


def long_winded(modules: list[Module]) -> list[str]:
    return [
        module.path
        for module in modules
        if module.path not in DRAWN and len((ast.get_docstring(module.tree) or "").splitlines()) > MAX_DOCSTRING_LINES
    ]


def busy_packages(modules: list[Module]) -> list[str]:
    return [module.path for module in modules if module.is_package_marker and module.text.strip()]


def unexplained_mocks(modules: list[Module]) -> list[str]:
    """Imports of a mock library with no comment on their line or the one above."""
    return [
        f"{module.path}:{line}"
        for module in modules
        for line, name in module.imports()
        if re.match(r"(unittest\.)?mock\b", name)
        and "#" not in module.lines[line - 1]
        and not (line > 1 and module.lines[line - 2].lstrip().startswith("#"))
    ]


def mock_lines(modules: list[Module]) -> int:
    pattern = re.compile(r"\b(?:Async|Magic|Non)?(?:Callable)?Mock\(|\bmock\.|\bpatch(?:\.\w+)?\(")
    return sum(bool(pattern.search(line)) for module in modules for line in module.lines)


def count_tests(modules: list[Module]) -> int:
    return sum(node.name.startswith("test_") for module in modules for node in module.functions())


def test_every_module_says_what_it_is_for():
    """The reader who opened the wrong file should know it after one line. Only 4 to 22 % of the modules of most
    services studied say anything."""
    everything = modules("worker", "web", "migrations", "tests", "bench")

    assert undocumented([module for module in everything if not module.is_package_marker]) == []


def test_a_module_says_it_briefly():
    """Six lines say what a module is for and what it must not know; more belongs into a document."""
    assert long_winded(source_modules()) == []


def test_packages_stay_empty():
    """Code in an `__init__` runs for everybody who imports anything below it, and invites cycles."""
    assert busy_packages(modules("worker", "web", "tests")) == []


def test_mocks_are_explained():
    """A mock repeats the code under test and agrees with its mistakes; a fake implements the port."""
    assert unexplained_mocks(modules_of_tests()) == []


def test_mocks_are_rare():
    """One service studied has three mock lines in every test: its tests restate the wiring, and break with it."""
    tests = [module for module in modules_of_tests() if not module.path.startswith("tests/rules/")]

    assert mock_lines(tests) <= MOCKS_PER_TEST * count_tests(tests)


def test_the_rules_can_fail():
    assert undocumented([Module("bad.py", "x = 1\n")]) == ["bad.py"]
    assert long_winded([Module("bad.py", '"""' + "a\n" * 7 + '"""\n')]) == ["bad.py"]
    assert busy_packages([Module("worker/__init__.py", "x = 1\n")]) == ["worker/__init__.py"]


def test_the_rules_about_mocks_can_fail():
    bad = Module("tests/bad.py", "from unittest.mock import Mock\nimport unittest.mock\nx = Mock()\n")
    good = Module("tests/good.py", "# The signal must not really be sent.\nfrom unittest.mock import Mock\n")

    assert unexplained_mocks([bad, good]) == ["tests/bad.py:1", "tests/bad.py:2"]
    assert mock_lines([bad]) == 1
    assert count_tests([Module("tests/x.py", "def test_a(): ...\ndef helper(): ...\n")]) == 1
