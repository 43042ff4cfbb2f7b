"""Rate budgets that all workers share, counted in Redis by its own clock. `worker.pipeline.budget` says what for."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.pipeline.budget import ANSWER_SECONDS, WINDOW_SECONDS, Grant, Limit, WindowAway

_GRANT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
for _, key in ipairs(KEYS) do
    while true do
        local oldest = redis.call('LINDEX', key, 0)
        if not oldest or tonumber(oldest) > now - ARGV[1] * 1000000 then break end
        redis.call('LPOP', key)
    end
end
local free = math.max(0, ARGV[2] - redis.call('LLEN', KEYS[1]))
local free_low = math.max(0, math.min(free, ARGV[3] - redis.call('LLEN', KEYS[2])))
local calls = math.min(free, tonumber(ARGV[4]))
local low = math.min(free_low, calls, tonumber(ARGV[5]))
for place, count in ipairs({calls, low}) do
    for _ = 1, count do redis.call('RPUSH', KEYS[place], string.format('%.0f', now)) end
    redis.call('EXPIRE', KEYS[place], ARGV[1] + 1)
end
local first = redis.call('LINDEX', KEYS[1], 0)
local more_in = first and ARGV[1] * 1000000 - (now - first) or 0
return {calls, low, free - calls, math.min(free_low - low, free - calls), more_in}
"""


class RedisWindow:
    """Two lists of times a source. Its methods raise WindowAway while Redis cannot be asked."""

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=answer_seconds,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._script = self._client.register_script(_GRANT)

    def grant(self, source: str, limit: Limit, calls: int, low: int) -> Grant:
        """Spend up to `calls`, `low` of them for work that is not live."""
        try:
            found = self._script(keys=self._keys(source), args=[WINDOW_SECONDS, limit.calls, limit.low, calls, low])
        except redis.RedisError as error:
            raise WindowAway(type(error).__name__) from None
        calls, low, left, left_low, more_in = (int(number) for number in found)
        return Grant(calls, low, left, left_low, more_in / 1_000_000)

    def give_back(self, source: str, calls: int, low: int) -> None:
        """Return what was not spent."""
        counts = [(key, count) for key, count in zip(self._keys(source), (calls, low), strict=True) if count > 0]
        if not counts:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, count in counts:
                    pipeline.rpop(key, count)
                pipeline.execute()
        except redis.RedisError as error:
            raise WindowAway(type(error).__name__) from None

    @staticmethod
    def _keys(source: str) -> list[str]:
        # The braces keep both on one node of a Redis cluster.
        return [f"verisink:{{budget:{source}}}:calls", f"verisink:{{budget:{source}}}:low"]
