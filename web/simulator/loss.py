"""Webhooks that never arrive: the provider has done its part as far as it knows, and nobody hears of it."""

import json

from web.simulator.notifications import Notice, compose
from web.simulator.records import Record
from web.simulator.world import World


def lose(world: World, record: Record, event: str | None = None) -> Notice:
    """The notification of what `record` is now, which is not to be sent.

    It leaves the traces that it would leave at the provider: an event in Persona's list, a failed one in Verifik's.
    Raises ValueError for kinds that nobody notifies about.
    """
    notice = compose(world, record, event)
    if record.ref.provider == "verifik":
        world.note_failed_webhook(notice.event, json.loads(notice.body))
    return notice
