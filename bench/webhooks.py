"""Webhooks as whole HTTP requests, signed and laid out as bytes before any clock starts.

Each is Persona's: an event of its own about a verification, without the attributes that an account can be told to leave
out, which makes about 1.5 KB. What varies is spliced into one template, because building each would take seconds.
"""

import hmac
import json
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass

from web.simulator.notifications import compose
from web.simulator.records import section
from web.simulator.world import World
from worker.clock import unix_seconds

PATH = "/webhooks/persona"
KIND = "verification/government-id"
COLLECTION = "verification/government-ids"
"""Where the API has this kind, below the source's base URL."""

LEFT_OUT = frozenset({"photo-urls", "selfie-photo", "front-photo-url", "entity-confidence-reasons", "checks"})
"""File URLs live for hours only and are read from the API anyway; without them the body is as long as was agreed."""

ALPHABET = string.ascii_letters + string.digits
ID_LENGTH = 24


@dataclass(frozen=True, slots=True)
class Sender:
    """Who signs, and how many different verifications the webhooks are about; 0 gives each its own."""

    secret: str
    resources: int = 0
    batch: str = ""
    """Ids are drawn from this, so two batches for one database need different ones."""


def body_template() -> tuple[bytes, bytes, bytes]:
    """What stands before the event's id, between it and the verification's, and behind."""
    world = World(4)
    record = world.create("persona", KIND)
    notice = compose(world, record)
    content = json.loads(notice.body)
    event = section(content, "data")
    attributes = section(section(section(event, "attributes"), "payload"), "data")
    shown = section(attributes, "attributes")
    for name in LEFT_OUT & shown.keys():
        del shown[name]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    before, _, rest = text.partition(str(event["id"]))
    between, _, behind = rest.partition(record.ref.external_id)
    if record.ref.external_id in behind:
        raise ValueError("the verification's id stands in the body twice")
    return before.encode(), between.encode(), behind.encode()


def identifiers(prefix: str, batch: str, count: int) -> list[bytes]:
    """Ids in Persona's form, in no order: ids that only ever rise would be kinder to an index than real ones are."""
    rng = random.Random(f"{prefix} {batch}")
    return [f"{prefix}_{''.join(rng.choices(ALPHABET, k=ID_LENGTH))}".encode() for _ in range(count)]


def bodies(sender: Sender, count: int) -> Iterator[bytes]:
    """So many bodies, each with an event id of its own."""
    before, between, behind = body_template()
    events = identifiers("evt", sender.batch, count)
    about = identifiers("ver", sender.batch, sender.resources or count)
    for number, event in enumerate(events):
        yield b"".join((before, event, between, about[number % len(about)], behind))


def requests(sender: Sender, count: int, at: int | None = None) -> list[bytes]:
    """So many POST requests for a kept-alive connection, signed now or at a Unix time."""
    at = unix_seconds() if at is None else at
    stamp, secret = str(at).encode() + b".", sender.secret.encode()
    made = []
    for body in bodies(sender, count):
        digest = hmac.digest(secret, stamp + body, "sha256").hex()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: bench.invalid\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"User-Agent: Persona/1.0\r\nPersona-Signature: t={at},v1={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made
