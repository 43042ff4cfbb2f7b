"""A sink of another installed package: named in the settings, made by its class, and served like ours."""

import sys

import pytest

from tests.support.receiver import event
from worker.errors import ConfigurationError
from worker.settings import load
from worker.sinks.registry import sinks

MODULE = """
class PigeonSink:
    at_once = 1
    call_seconds = 1.0

    def __init__(self, name, settings):
        self.name, self.path, self.flown = name, settings.path, []

    def deliver(self, events):
        self.flown.extend(event["id"] for event in events)

    def close(self):
        pass
"""

CONFIGURED = {"VERISINK_SINKS__LOFT__TYPE": "pigeon", "VERISINK_SINKS__LOFT__PATH": "north"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as an installer leaves it."""
    site = tmp_path / "site"
    facts = site / "acme_pigeons-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "acme_pigeons.py").write_text(MODULE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pigeons\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[verisink.sinks]\npigeon = acme_pigeons:PigeonSink\n")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("acme_pigeons", None)


def test_an_installed_package_brings_a_sink(installed, tmp_path):
    _, loft = sinks(load(CONFIGURED, tmp_path).complete_sinks)
    loft.deliver([event(1)])

    assert (loft.name, vars(loft)["path"], vars(loft)["flown"]) == ("loft", "north", ["id-1"])


def test_without_it_the_type_is_unknown(tmp_path):
    with pytest.raises(ConfigurationError, match="LOFT__TYPE: must be one of celery, file, redis_stream, webhook"):
        load(CONFIGURED, tmp_path)
