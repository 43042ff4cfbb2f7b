"""One home each: the environment, the clock and the terminal are reached from one place only."""

import ast

import pytest

from tests.rules.source import Module, modules, source_modules

ENVIRONMENT = ["os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"]
CLOCK = [
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
]
PROJECT = frozenset({"worker", "web", "tests", "bench"})


def uses_outside(home: str, names: list[str], modules: list[Module]) -> list[str]:
    return [use for module in modules if module.path != home for use in module.uses(names)]


def prints(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def project_imports(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{line}: {name}"
        for module in modules
        for line, name in module.imports()
        if name.split(".")[0] in PROJECT
    ]


def vendors(modules: list[Module]) -> set[str]:
    """The vendors are those that the registry imports."""
    return {
        name.split(".")[2]
        for module in modules
        if module.path == "worker/providers/registry.py"
        for _, name in module.imports()
        if name.startswith("worker.providers.")
    } - {"base"}


def neighbours(modules: list[Module]) -> list[str]:
    """Where a vendor's module, such as `acme` or `acme_mapping`, imports another vendor's."""
    names = vendors(modules)
    found = []
    for module in modules:
        if module.path.startswith("worker/providers/") and (mine := module.name.split(".")[-1].split("_")[0]) in names:
            for line, name in module.imports():
                theirs = name.removeprefix("worker.providers.").split(".")[0].split("_")[0]
                if name.startswith("worker.providers.") and theirs in names - {mine}:
                    found.append(f"{module.path}:{line}: {name}")
    return found


def test_vendors_do_not_know_each_other():
    """The next provider is written by copying the nearest one; if that one leans on a third, changing the third breaks
    both. What two vendors share belongs into a module that is named after what it does."""
    assert neighbours(source_modules()) == []


def test_only_settings_reads_the_environment():
    """A variable read at its point of use is in no masked summary, in no list of mistakes at the start, and cannot be
    handed over by a test."""
    assert uses_outside("worker/settings.py", ENVIRONMENT, source_modules()) == []


def test_only_the_clock_reads_the_clock():
    """Naive and local times crept into most services studied; and leases must not depend on a host's clock at all."""
    assert uses_outside("worker/clock.py", CLOCK, source_modules()) == []


def test_nothing_prints():
    """Output for people goes through click and rich, and everything else through the log, where secrets are masked."""
    assert prints(source_modules()) == []


def test_migrations_import_nothing_of_the_project():
    """A migration is a photograph of one day's schema. One that imports a model changes when the model does, and then
    an old database no longer upgrades."""
    assert project_imports(modules("migrations/versions")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ['A']\n",
        "import os as system\nsystem.getenv('A')\n",
        "from os import environ\n",
        "from os import getenv as read\n",
    ],
)
def test_the_environment_rule_can_fail(text):
    assert len(uses_outside("worker/settings.py", ENVIRONMENT, [Module("worker/bad.py", text)])) == 1
    assert uses_outside("worker/settings.py", ENVIRONMENT, [Module("worker/settings.py", text)]) == []


@pytest.mark.parametrize(
    "text",
    [
        "from datetime import datetime\ndatetime.now()\n",
        "import datetime as dt\ndt.datetime.utcnow()\n",
        "from datetime import date\ndate.today()\n",
        "import time\ntime.time()\n",
        "from time import time\n",
    ],
)
def test_the_clock_rule_can_fail(text):
    assert len(uses_outside("worker/clock.py", CLOCK, [Module("worker/bad.py", text)])) == 1


def test_names_that_only_look_alike_are_no_use():
    innocent = Module("worker/good.py", "import time\ntime.monotonic()\nself.os.environ\nrow.now()\n")

    assert innocent.uses(ENVIRONMENT + CLOCK) == []


def test_the_other_rules_can_fail():
    bad = Module("migrations/versions/bad.py", "from worker.store import tables\nimport web\nprint(1)\n")

    assert prints([bad]) == ["migrations/versions/bad.py:3"]
    assert project_imports([bad]) == [
        "migrations/versions/bad.py:1: worker.store.tables",
        "migrations/versions/bad.py:2: web",
    ]


def test_the_rule_about_vendors_can_fail():
    registry = "from worker.providers.acme import Acme\nfrom worker.providers.ajax import Ajax\n"
    modules = [
        Module("worker/providers/registry.py", registry),
        Module("worker/providers/acme.py", "from worker.providers.base import Provider\n"),
        Module(
            "worker/providers/acme_mapping.py", "import worker.providers.acme\nimport worker.providers.ajax_mapping\n"
        ),
    ]

    assert neighbours(modules) == ["worker/providers/acme_mapping.py:2: worker.providers.ajax_mapping"]
