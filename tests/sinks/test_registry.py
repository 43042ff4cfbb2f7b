"""Sinks are made from their settings; what cannot be made is said without its secrets."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from pydantic import SecretStr

from worker.errors import ConfigurationError
from worker.settings import SinkSettings
from worker.sinks import registry
from worker.sinks.redis_stream import RedisStreamSink
from worker.sinks.registry import sinks


def configured(kind="redis_stream", url="redis://127.0.0.1:1/0"):
    # Not validated, because the type may be one that nobody brings any more.
    return SinkSettings.model_construct(
        name="mine", type=kind, url=SecretStr(url) if url else None, stream="s", max_length=10
    )


def test_the_log_is_always_there_and_the_others_follow():
    log, mine = sinks({"mine": configured()})

    assert log.name == "log"
    assert (mine.name, type(mine)) == ("mine", RedisStreamSink)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (configured("pigeon"), "sink mine: no installed package brings the type pigeon"),
        (configured(url="redis://:canary@127.0.0.1:notaport/0"), "cannot be used: ValueError"),
        (configured(url=None), "cannot be used: ValueError"),
    ],
)
def test_what_cannot_be_made_is_said_without_secrets(settings, said):
    with pytest.raises(ConfigurationError) as refusal:
        sinks({"mine": settings})

    assert said in str(refusal.value)
    assert "canary" not in str(refusal.value)


class Pigeon:
    """A sink of another package."""

    at_once = 1

    def __init__(self, name, settings) -> None:
        self.name = name
        self.stream = settings.stream


def test_other_packages_bring_sinks(monkeypatch):
    entry = EntryPoint("pigeon", f"{__name__}:Pigeon", "verisink.sinks")
    monkeypatch.setattr(registry, "entry_points", lambda *, group, name: [entry] if name == "pigeon" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda _: Pigeon)

    [_, mine] = sinks({"mine": configured("pigeon")})

    assert isinstance(mine, Pigeon)
    assert (mine.name, mine.stream) == ("mine", "s")


def test_only_what_is_configured_is_loaded():
    """Each type brings libraries of its own, and a process that idles has room for none that it does not use."""
    program = (
        "import sys, worker.sinks.registry as registry\n"
        "registry.sinks({})\n"
        "print(sorted(name for name in sys.modules if name in {'standardwebhooks', 'httpx', 'celery', 'redis'}\n"
        "    or name.startswith('worker.sinks.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60)

    assert done.stdout.strip() == "['worker.sinks.base', 'worker.sinks.log', 'worker.sinks.registry']"
