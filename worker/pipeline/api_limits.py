"""How often the API may be asked: by each token in a minute, and with tokens that nobody made."""

import math
from dataclasses import dataclass

import structlog

from worker.clock import monotonic
from worker.pipeline.budget import WINDOW_SECONDS, Limit, Windows

WRONG_PER_MINUTE = 60
"""Wrong tokens that a process answers with 401 in a minute; further ones hear 429 and are told of in the log. Good
tokens are never refused for it, because behind a proxy everybody comes from one address: what keeps them from being
guessed is their length."""

ANSWER_SECONDS = 0.2
"""So long a shared count may take. It is asked for every request, and one that waits longer is counted here instead."""

AWAY_SECONDS = 10.0
"""For so long a Redis that failed is not asked again, so that it costs a request in thousands a fifth of a second."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a request may be answered, how many more may in this minute, and in how many seconds there is more."""

    taken: bool
    left: int
    more_in: int


class ApiLimits:
    """Counts requests. Thread-safe. `per_minute` is for each token, and 0 for as many as it likes."""

    def __init__(self, per_minute: int, redis_url: str | None) -> None:
        self.per_minute = per_minute
        self._windows = Windows(redis_url, away_seconds=AWAY_SECONDS, answer_seconds=ANSWER_SECONDS)
        # Guesses are counted where they arrive: they are to cost us little, and a count in Redis is a round trip.
        self._wrong = Windows(None)
        self._told_at = float("-inf")

    def spend(self, token: str) -> Standing | None:
        """One request of this token; None where requests are not limited."""
        return _spend(self._windows, f"api:{token}", self.per_minute) if self.per_minute else None

    def spend_wrong(self) -> Standing:
        """One request with a token that is none."""
        standing = _spend(self._wrong, "wrong", WRONG_PER_MINUTE)
        if not standing.taken and monotonic() - self._told_at > WINDOW_SECONDS:
            self._told_at = monotonic()
            log.warning("api_tokens_guessed", wrong_in_a_minute=WRONG_PER_MINUTE)
        return standing


def _spend(windows: Windows, name: str, most: int) -> Standing:
    found = windows.grant(name, Limit(most, 0), 1, 0)
    return Standing(found.calls == 1, found.left, max(1, math.ceil(found.more_in)))
