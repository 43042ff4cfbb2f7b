"""Ids in the providers' real formats, drawn from a seeded generator so that a run can be repeated."""

import random
import uuid

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Ids:
    """Draws ids. Not thread-safe: the world holds its lock while it draws."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def persona(self, prefix: str) -> str:
        return f"{prefix}_{''.join(self._rng.choices(BASE58, k=24))}"

    def object_id(self) -> str:
        """A Mongo ObjectId as Verifik uses: its first byte is that of the years around 2025."""
        return f"68{self._rng.getrandbits(88):022x}"

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
