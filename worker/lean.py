"""Loads libraries without what they would load besides for people at a terminal. Programs that serve import it first.

structlog, httpx and the templates of Alembic look for rich and pygments, and load them where they are installed; the
client of Redis does the same with OpenTelemetry. A process that draws nothing would keep eight megabytes of it, and
start a tenth of a second later. Whoever asks for those libraries afterwards gets them.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import cast

from worker import garbage

HIDDEN = ("opentelemetry", "pygments", "rich")
"""All of them are optional to the libraries that look for them."""


def load(name: str) -> ModuleType:
    """The module of this name; what it imports finds none of the hidden ones, unless they are loaded already."""
    absent = [hidden for hidden in HIDDEN if hidden not in sys.modules]
    # Python's own way of saying that there is no such module.
    sys.modules.update(dict.fromkeys(absent, cast("ModuleType", None)))
    try:
        return import_module(name)
    finally:
        for hidden in absent:
            del sys.modules[hidden]


garbage.expect_little()
load("structlog")
