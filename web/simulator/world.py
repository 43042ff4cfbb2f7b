"""The truth that the providers serve: every record, each of its changes, and every call that asked for one.

Thread-safe. The same seed and sequence of calls make the same ids and documents; only times come from the clock.
"""

import hashlib
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta

from web.simulator.gu1_documents import Gu1Vendor
from web.simulator.ids import Ids
from web.simulator.persona_documents import PersonaVendor
from web.simulator.records import (
    Action,
    Call,
    Change,
    JsonObject,
    Make,
    Reading,
    Record,
    Ref,
    Truth,
    Vendor,
    iso,
)
from web.simulator.verifik_documents import VerifikVendor
from web.simulator.yoti_documents import YotiVendor
from worker.clock import utc_now
from worker.domain.strict_json import Json, canonical

ORGANIZATION_ID = "8e2f89ab-c216-4eb4-90eb-ca5d44499b10"
EVENTS_KEPT = 20_000
"""Persona forgets events after 30 days; the simulator forgets the oldest of very many."""

PROVIDERS = ("persona", "verifik", "gu1", "yoti")


class World:
    """All four providers' records. `clock` is for tests that want equal documents."""

    def __init__(
        self, seed: int = 0, *, clock: Callable[[], datetime] = utc_now, organization_id: str = ORGANIZATION_ID
    ) -> None:
        self._lock = threading.RLock()
        self._rng = random.Random(seed)
        self._ids = Ids(self._rng)
        self._clock = clock
        self._records: dict[Ref, Record] = {}
        self._forgotten: dict[Ref, Truth] = {}
        self._refs: dict[tuple[str, str], Ref] = {}
        self._changes: list[Change] = []
        self._calls: list[Call] = []
        self._events: deque[JsonObject] = deque(maxlen=EVENTS_KEPT)
        self._failed_webhooks: deque[JsonObject] = deque(maxlen=EVENTS_KEPT)
        self._reads = 0
        self._vendors: Mapping[str, Vendor] = {
            "persona": PersonaVendor(),
            "verifik": VerifikVendor(),
            "gu1": Gu1Vendor(organization_id),
            "yoti": YotiVendor(),
        }

    def create(self, provider: str, kind: str, *, parent: Ref | None = None, **options: Json) -> Record:
        """A new record. Options: `reference`; `shape` (Verifik: flat, nested), `checks` (Yoti), `account` (Persona)."""
        with self._lock:
            if parent is not None:
                options = {**options, "parent": parent.external_id}
            make = self._make(None)
            external_id, document = self._vendors[provider].build(kind, make, options)
            ref = Ref(provider, kind, external_id)
            status = self._vendors[provider].status(kind, document)
            record = self._store(Record(ref, document, status, 1, make.at, make.at), "create")
            self._refs[provider, external_id] = ref
            if parent is not None:
                self._adopt(parent, record)
            return record

    def change(self, ref: Ref, action: Action) -> Record:
        """Let something happen to a record; its updated time moves. Only Persona blanks on `redact`, others delete."""
        with self._lock:
            if action == "redact" and ref.provider != "persona":
                return self.forget(ref)
            record = self._changed(
                ref, action, lambda vendor, document, make: vendor.apply(ref.kind, document, action, make)
            )
            if action == "redact":
                self._redact_children(record)
            return record

    def forget(self, ref: Ref) -> Record:
        """The provider deletes the record: reading it is a 404 from now on. Returns its last state."""
        with self._lock:
            record = self._records.pop(ref)
            truth = Truth(None, None, record.revision + 1, self._make(record).at)
            self._forgotten[ref] = truth
            self._changes.append(Change(ref, "forget", truth))
            return replace(record, revision=truth.revision, updated_at=truth.updated_at)

    def get(self, ref: Ref) -> Record | None:
        with self._lock:
            return self._records.get(ref)

    def by_id(self, provider: str, external_id: str) -> Record | None:
        with self._lock:
            ref = self._refs.get((provider, external_id))
            return self._records.get(ref) if ref else None

    def find(self, provider: str, kind: str) -> list[Record]:
        """The records of a kind, newest first."""
        with self._lock:
            return [
                record for record in reversed(self._records.values())
                if record.ref.provider == provider and record.ref.kind == kind
            ]  # fmt: skip

    def serve(self, record: Record) -> JsonObject:
        """The body of one more read, different from every other one where the real provider's is."""
        return self._vendors[record.ref.provider].serve(record, self.reading())

    def reading(self) -> Reading:
        with self._lock:
            self._reads += 1
            return Reading(self._reads, self._clock())

    def truth(self) -> dict[Ref, Truth]:
        """What a perfect copy would hold of every record that ever was."""
        with self._lock:
            current = {ref: self._truth(record) for ref, record in self._records.items()}
            return {**self._forgotten, **current}

    def digest(self, provider: str, response: JsonObject) -> str:
        """The digest to compare with a truth's: of a served or stored body, without what differs from read to read."""
        return hashlib.sha256(canonical(self._vendors[provider].core(response))).hexdigest()

    def changes(self) -> list[Change]:
        with self._lock:
            return list(self._changes)

    def emit(self, record: Record, name: str) -> JsonObject:
        """A Persona event about `record` as it is now. It is kept, and `GET /events` lists it."""
        with self._lock:
            payload: JsonObject = {**self.serve(record), "included": []}
            at = iso(max(self._clock(), record.updated_at))
            event: JsonObject = {
                "type": "event", "id": self._ids.persona("evt"),
                "attributes": {"name": name, "payload": payload, "created-at": at, "redacted-at": None},
            }  # fmt: skip
            self._events.append(event)
            return event

    def events(self) -> list[JsonObject]:
        """Persona's events, newest first."""
        with self._lock:
            return list(reversed(self._events))

    def note_failed_webhook(self, name: str, body: Json) -> None:
        """Let Verifik's log of webhooks have one that did not arrive."""
        with self._lock:
            at = iso(self._clock())
            self._failed_webhooks.append({
                "_id": self._ids.object_id(), "type": name, "body": body, "status": "sent", "sentAt": at,
                "response": {"status": "fail", "body": None}, "createdAt": at, "updatedAt": at,
            })  # fmt: skip

    def failed_webhooks(self) -> list[JsonObject]:
        """What Verifik could not deliver, newest first."""
        with self._lock:
            return list(reversed(self._failed_webhooks))

    def begin_call(self, call: Call) -> int:
        """Note a call that has just arrived; the number is for `end_call`."""
        with self._lock:
            self._calls.append(replace(call, at=self._clock()))
            return len(self._calls) - 1

    def end_call(self, number: int, status: int) -> None:
        with self._lock:
            self._calls[number] = replace(self._calls[number], status=status)

    def calls(self, provider: str | None = None) -> list[Call]:
        with self._lock:
            return [call for call in self._calls if provider in (None, call.provider)]

    def now(self) -> datetime:
        return self._clock()

    def _make(self, record: Record | None) -> Make:
        at = self._clock()
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        if record is not None:
            at = max(at, record.updated_at + timedelta(milliseconds=1))
        return Make(self._ids, self._rng, at)

    def _store(self, record: Record, action: str) -> Record:
        self._records[record.ref] = record
        self._changes.append(Change(record.ref, action, self._truth(record)))
        return record

    def _changed(self, ref: Ref, action: str, change: Callable[[Vendor, JsonObject, Make], None]) -> Record:
        record = self._records[ref]
        make = self._make(record)
        vendor = self._vendors[ref.provider]
        document = deepcopy(record.document)
        change(vendor, document, make)
        return self._store(
            Record(ref, document, vendor.status(ref.kind, document), record.revision + 1, record.created_at, make.at),
            action,
        )

    def _adopt(self, parent: Ref, child: Record) -> None:
        self._changed(parent, "adopt", lambda vendor, document, _: vendor.adopt(document, child.ref, child.document))

    def _redact_children(self, record: Record) -> None:
        vendor = self._vendors[record.ref.provider]
        for kind, external_id in vendor.children(record.document):
            child = Ref(record.ref.provider, kind, external_id)
            if child in self._records:
                # A child that is redacted already refuses to be redacted again, and that is fine.
                with suppress(ValueError):
                    self.change(child, "redact")

    def _truth(self, record: Record) -> Truth:
        vendor = self._vendors[record.ref.provider]
        core = vendor.core(vendor.serve(record, Reading(0, record.updated_at)))
        digest = hashlib.sha256(canonical(core)).hexdigest()
        return Truth(record.status, digest, record.revision, record.updated_at)
