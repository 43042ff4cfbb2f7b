"""The log sink: one line an event."""

from collections.abc import Mapping, Sequence

import structlog

from worker.sinks.base import CloudEvent

log = structlog.get_logger("verisink.events")


class LogSink:
    """Writes each event into the log, which is where an operator of the embedded default looks first."""

    name = "log"
    at_once = 100
    call_seconds = 1.0

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Write the events' thin facts."""
        for event in events:
            data = event["data"]
            facts = data if isinstance(data, Mapping) else {}
            log.info(
                str(event["type"]),
                id=event["id"],
                sequence=event["sequence"],
                subject=event.get("subject"),
                source=facts.get("source"),
                version=facts.get("version"),
                stage=facts.get("stage"),
                outcome=facts.get("outcome"),
            )

    def close(self) -> None:
        """There is nothing to give back."""
