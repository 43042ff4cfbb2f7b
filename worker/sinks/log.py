"""The log sink: one line an event."""

from collections.abc import Mapping, Sequence

import structlog

from worker.log import together, trail
from worker.sinks.base import CloudEvent

log = structlog.get_logger("verisink.events")


class LogSink:
    """Writes each event into the log, which is where an operator of the embedded default looks first."""

    name = "log"
    at_once = 100
    call_seconds = 1.0

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Write the events' thin facts."""
        with together():
            for event in events:
                _write(event)

    def close(self) -> None:
        """There is nothing to give back."""


def _write(event: CloudEvent) -> None:
    data = event["data"]
    facts = data if isinstance(data, Mapping) else {}
    source, subject = facts.get("source"), event.get("subject")
    log.info(
        str(event["type"]),
        id=event["id"],
        sequence=event["sequence"],
        subject=subject,
        source=source,
        trail=trail(str(source), str(subject)) if subject is not None else None,
        version=facts.get("version"),
        stage=facts.get("stage"),
        outcome=facts.get("outcome"),
    )
