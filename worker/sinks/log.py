"""The log sink: one line an event."""

from collections.abc import Mapping

import structlog

log = structlog.get_logger("verisink.events")


class LogSink:
    """Writes each event into the log, which is where an operator of the embedded default looks first."""

    name = "log"

    def deliver(self, cloud_event: Mapping[str, object]) -> None:
        """Write the event's thin facts."""
        data = cloud_event["data"]
        facts = data if isinstance(data, Mapping) else {}
        log.info(
            str(cloud_event["type"]),
            id=cloud_event["id"],
            sequence=cloud_event["sequence"],
            subject=cloud_event.get("subject"),
            source=facts.get("source"),
            version=facts.get("version"),
            stage=facts.get("stage"),
            outcome=facts.get("outcome"),
        )
