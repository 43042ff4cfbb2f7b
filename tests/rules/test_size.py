"""Size: what separates readable services from the others is the tail, so the tail has a hard end."""

import ast

from tests.rules.source import Module, length, modules_of_tests, quantile, source_modules

MAX_SOURCE_LINES = 400
MAX_TEST_LINES = 600
MEDIAN_SOURCE_LINES = 120
MAX_FUNCTION_LINES = 60
P90_FUNCTION_LINES = 30
MEDIAN_FUNCTION_LINES = 10


def too_long(modules: list[Module], limit: int) -> list[str]:
    return [f"{module.path}: {len(module.lines)} lines" for module in modules if len(module.lines) > limit]


def long_functions(modules: list[Module], limit: int) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: {node.name} has {length(node)} lines"
        for module in modules
        for node in module.functions()
        if length(node) > limit
    ]


def test_no_module_is_a_god():
    """Six comparable services have modules of 2,000 to 5,000 lines: always a configuration that swallowed the
    program, a module shaped like a vendor, or one that mixes I/O, policy and storage. Splitting is cheap early."""
    assert too_long(source_modules(), MAX_SOURCE_LINES) == []
    assert too_long(modules_of_tests(), MAX_TEST_LINES) == []


def test_most_modules_are_short():
    """Good services converge on 80 to 130 lines a module: what fits into one reading."""
    assert quantile((len(module.lines) for module in source_modules()), 0.5) <= MEDIAN_SOURCE_LINES


def test_no_function_is_longer_than_a_screen():
    """The services studied have functions of 487 to 1,229 lines: the ones that nobody dares to change."""
    assert long_functions(source_modules(), MAX_FUNCTION_LINES) == []


def test_most_functions_are_short():
    """Half of all functions fit into ten lines, and nine of ten into thirty."""
    lengths = [length(node) for module in source_modules() for node in module.functions()]

    assert quantile(lengths, 0.5) <= MEDIAN_FUNCTION_LINES
    assert quantile(lengths, 0.9) <= P90_FUNCTION_LINES


def test_the_rules_can_fail():
    long = Module("long.py", "def run():\n" + "    pass\n" * 5)

    assert too_long([long], 5) == ["long.py: 6 lines"]
    assert long_functions([long], 5) == ["long.py:1: run has 6 lines"]
    assert quantile([1, 2, 9], 0.5) == 2
    assert quantile([], 0.5) == 0


def test_a_docstring_does_not_count_as_length():
    explained = ast.parse('def run():\n    """One.\n\n    Two.\n    """\n    pass\n').body[0]

    assert isinstance(explained, ast.FunctionDef)
    assert length(explained) == 2
