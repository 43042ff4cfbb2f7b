"""Rows of any age for the tests of pruning, written behind the application's back."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Table, insert

from tests.store.play import SOURCE, now
from worker.domain.replays import ItemState, ReplayLevel, ReplayState
from worker.domain.states import Cause, DeliveryState
from worker.store.engine import Database
from worker.store.tables import deliveries, delivery_bodies, delivery_resources, replay_items, replays, resources

DAYS = 30
"""What the tests keep."""

WORK: dict[str, dict[str, object]] = {
    "settled": {"wanted": 2, "retrieved": 2},
    "waiting": {"wanted": 2, "retrieved": 1, "due_at": True, "wanted_since": True},
    "claimed": {"wanted": 1, "retrieved": 0, "due_at": True, "wanted_since": True, "claim_token": uuid.uuid4()},
    "parked": {"wanted": 1, "retrieved": 0, "parked_at": True, "wanted_since": True, "park_reason": "gone"},
    "woken": {"wanted": 1, "retrieved": 1, "due_at": True, "wanted_since": True},
}
"""The ways in which a resource stands. `True` is some time."""

OPEN = frozenset(WORK) - {"settled"}


class Stocks:
    """Writes rows as old as a test wants them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = now(database)
        self.old = self.now - timedelta(days=DAYS, hours=1)
        self.young = self.now - timedelta(days=DAYS, hours=-1)

    def at(self, age: str) -> datetime:
        return self.old if age == "old" else self.young

    def add(self, table: Table, *rows: dict[str, object]) -> list[int]:
        """Inserts rows one by one, because they need not have the same columns; returns their keys."""
        with self.database.write() as session:
            written = [insert(table).values(**row).returning(*table.primary_key.columns) for row in rows]
            return [session.execute(statement).one()[0] for statement in written]

    def resource(self, work: str) -> int:
        values = {name: self.young if value is True else value for name, value in WORK[work].items()}
        row = {"source": SOURCE, "provider": "persona", "environment": "sandbox", "kind": "inquiry", "priority": 0}
        row |= {"external_id": f"inq_{uuid.uuid4().hex}", "created_at": self.old, "cause": Cause.WEBHOOK, **values}
        [resource_id] = self.add(resources, row)
        return resource_id

    def delivery(self, received_at: datetime, *resource_ids: int, **more: object) -> uuid.UUID:
        delivery_id = uuid.uuid4()
        row = {"id": delivery_id, "source": SOURCE, "delivery_key": delivery_id.hex, "state": DeliveryState.ACCEPTED}
        self.add(deliveries, {**row, "body_sha256": "0" * 64, "received_at": received_at, **more})
        self.add(delivery_bodies, {"delivery_id": delivery_id, "body": b"{}", "headers": {}})
        links = [{"resource_id": resource_id, "delivery_id": delivery_id} for resource_id in resource_ids]
        self.add(delivery_resources, *links)
        return delivery_id

    def replay(self, created_at: datetime, finished_at: datetime | None, items: int = 0) -> uuid.UUID:
        replay_id = uuid.uuid4()
        state = ReplayState.RUNNING if finished_at is None else ReplayState.FINISHED
        row = {"id": replay_id, "level": ReplayLevel.REINGEST, "selection": {}, "actor": "tests", "state": state}
        self.add(replays, {**row, "created_at": created_at, "finished_at": finished_at, "total": items, "outcomes": {}})
        self.items(replay_id, [None] * items)
        return replay_id

    def items(self, replay_id: uuid.UUID, delivery_ids: Sequence[uuid.UUID | None]) -> None:
        rows = [
            {"replay_id": replay_id, "position": position, "source": SOURCE, "delivery_id": delivery_id,
             "state": ItemState.WAITING}
            for position, delivery_id in enumerate(delivery_ids, 1)
        ]  # fmt: skip
        if rows:
            with self.database.write() as session:
                session.execute(insert(replay_items), rows)
