"""Which types of sinks there are. A new one is a module, a line in `worker.settings_sink`, and its part of
`docs/sinks.md`.

Other packages bring theirs through the entry-point group `verisink.sinks`: a name, and a class that is called with the
sink's name and its settings.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from worker.errors import ConfigurationError
from worker.settings import SINK_PLUGINS, SinkSettings
from worker.sinks.base import Sink
from worker.sinks.log import LogSink

BUILT_IN: Mapping[str, EntryPoint] = {
    "redis_stream": EntryPoint("redis_stream", "worker.sinks.redis_stream:RedisStreamSink", SINK_PLUGINS),
    "webhook": EntryPoint("webhook", "worker.sinks.webhook:WebhookSink", SINK_PLUGINS),
    "celery": EntryPoint("celery", "worker.sinks.celery_task:CeleryTaskSink", SINK_PLUGINS),
    "file": EntryPoint("file", "worker.sinks.file:file_sink", SINK_PLUGINS),
}
"""Named like those of other packages, so that only what is configured is loaded."""


def sinks(configured: Mapping[str, SinkSettings]) -> tuple[Sink, ...]:
    """The configured sinks after the log, which is always there.

    Raises ConfigurationError for a sink that nobody brings, or that cannot be made.
    """
    return (LogSink(), *(make_sink(name, settings) for name, settings in configured.items()))


def make_sink(name: str, settings: SinkSettings) -> Sink:
    """One sink. Raises ConfigurationError like `sinks`."""
    for entry in _entries(settings.type):
        try:
            sink: Sink = entry.load()(name, settings)
        except Exception as error:
            # The error's own text could quote a URL, and that may hold a password.
            problem = f"sink {name}: {entry.value} cannot be used: {type(error).__name__}"
            raise ConfigurationError([problem]) from error
        return sink
    raise ConfigurationError([f"sink {name}: no installed package brings the type {settings.type}"])


def _entries(kind: str) -> Iterable[EntryPoint]:
    return [BUILT_IN[kind]] if kind in BUILT_IN else entry_points(group=SINK_PLUGINS, name=kind)
