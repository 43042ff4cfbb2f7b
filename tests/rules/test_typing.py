"""Types: strict, and with a budget for the ways around them."""

import io
import re
import tokenize

from tests.rules.source import Module, source_modules

ANY_PER_THOUSAND = 2
IGNORES_PER_THOUSAND = 1
ALLOWANCE = 2
"""In a small tree a single use would be over any density."""


def comments(module: Module) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def bare_ignores(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{line}"
        for module in modules
        for line, comment in comments(module)
        if re.search(r"type:\s*ignore(?!\[[a-z-]+)", comment)
    ]


def ignores(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{line}"
        for module in modules
        for line, comment in comments(module)
        if re.search(r"type:\s*ignore", comment)
    ]


def anys(modules: list[Module]) -> list[str]:
    found = []
    for module in modules:
        tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
        names = [token for token in tokens if token.type == tokenize.NAME and token.string == "Any"]
        found += [f"{module.path}:{name.start[0]}" for name in names if "import" not in name.line]
    return found


def allowed(per_thousand: int, modules: list[Module]) -> int:
    return ALLOWANCE + sum(len(module.lines) for module in modules) * per_thousand // 1000


def test_any_is_rare():
    """`Any` switches the checker off for everything that it touches; one service studied has 35 in 1,000 lines."""
    modules = source_modules()

    assert len(anys(modules)) <= allowed(ANY_PER_THOUSAND, modules), anys(modules)


def test_ignored_errors_are_rare():
    """Each is a place where the checker said something and was overruled."""
    modules = source_modules()

    assert len(ignores(modules)) <= allowed(IGNORES_PER_THOUSAND, modules), ignores(modules)


def test_an_ignored_error_is_named():
    """A bare `type: ignore` hides tomorrow's error on the same line, too."""
    assert bare_ignores(source_modules()) == []


def test_the_rules_can_fail():
    bad = Module(
        "bad.py",
        "from typing import Any\n"
        "a: Any = 1  # type: ignore\n"
        "b: int = 'x'  # type: ignore[assignment]\n"
        "c = '# type: ignore'\n",
    )

    assert anys([bad]) == ["bad.py:2"]
    assert ignores([bad]) == ["bad.py:2", "bad.py:3"]
    assert bare_ignores([bad]) == ["bad.py:2"]
