"""What the house rules read: the files of the repository and their syntax trees."""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIMS = frozenset({"worker/celery.py", "web/wsgi.py"})


@dataclass(frozen=True)
class Module:
    """One Python file: where it is, seen from the root of the repository, and what it says."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, filename=self.path)

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without their ends."""
        return self.text.splitlines()

    @property
    def is_package_marker(self) -> bool:
        """Whether this is an `__init__.py`."""
        return self.path.endswith("__init__.py")

    @property
    def name(self) -> str:
        """The dotted name that imports it."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def imports(self) -> Iterator[tuple[int, str]]:
        """The line and the dotted name of everything imported; `from a import b` is `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def uses(self, banned: Iterable[str]) -> list[str]:
        """Where a name of the standard library is used, whatever it was imported as."""
        names = frozenset(banned)
        found = [(line, name) for line, name in self.imports() if name in names]
        meaning = dict(self._meanings())
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and (name := resolve(node, meaning)) in names:
                found.append((node.lineno, name))
        return [f"{self.path}:{line}: {name}" for line, name in sorted(found)]

    def _meanings(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def resolve(node: ast.expr, meaning: dict[str, str]) -> str:
    """The full dotted name that an expression stands for, or nothing."""
    if isinstance(node, ast.Name):
        return meaning.get(node.id, "")
    if isinstance(node, ast.Attribute) and (owner := resolve(node.value, meaning)):
        return f"{owner}.{node.attr}"
    return ""


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function, from its `def` to its end, without its docstring: explaining is free."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


@cache
def modules(*folders: str) -> list[Module]:
    """The Python files below some folders."""
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def source_modules() -> list[Module]:
    """The program: `worker` and `web`, without the package markers."""
    return [module for module in modules("worker", "web") if not module.is_package_marker]


def modules_of_tests() -> list[Module]:
    """The tests and what supports them, without the package markers."""
    return [module for module in modules("tests") if not module.is_package_marker]


@cache
def tracked_files() -> list[Path]:
    """The files that are in the repository, or would be after `git add`; in an unpacked archive, all but the hidden."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not hidden(path)]
    return [path for path in paths if path.is_file()]


def hidden(path: Path) -> bool:
    """Whether a path lies in a folder that tools made."""
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part.endswith((".egg-info", "__pycache__")) for part in parts)


def quantile(numbers: Iterable[int], share: float) -> int:
    """The number that a share of all numbers does not exceed; 0 when there are none."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0
