"""On which terms each configured sink gets its events."""

from collections.abc import Mapping
from datetime import timedelta

from worker.domain.events import EventFilter
from worker.pipeline.settle import Terms
from worker.settings import Settings


def terms(settings: Settings) -> Mapping[str, Terms]:
    """The terms of each configured sink, by name. The log, which is not configured, has the usual ones."""
    return {
        name: Terms(
            wanted=EventFilter(frozenset(sink.types), frozenset(sink.sources), frozenset(sink.kinds)),
            retry=timedelta(hours=sink.retry_hours),
            from_now=sink.start == "now",
        )
        for name, sink in settings.sinks.items()
    }
