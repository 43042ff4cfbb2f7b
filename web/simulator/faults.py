"""What can go wrong at a provider, switched on and off while the simulator runs."""

import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from web.simulator.records import Call
from worker.clock import monotonic


@dataclass(frozen=True, slots=True)
class Faults:
    """One provider's troubles. Shares and rates are between 0 and 1; `share` is that of the calls which the
    faults after it strike, so that a test can break some answers and not others."""

    outage: bool = False
    wrong_credentials: bool = False
    error_rate: float = 0.0
    latency: float = 0.0
    slow_latency: float = 0.0
    slow_share: float = 0.0
    rate_limit_per_minute: int | None = None
    share: float = 1.0
    hang: bool = False
    truncated: bool = False
    html: bool = False
    empty: bool = False
    big_megabytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A scripted answer, given instead of the real one."""

    status: int = 503
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


OnCall: TypeAlias = Callable[[Call], None]


class FaultBoard:
    """The switches of all providers. Thread-safe; a change counts from the next call on, and frees those that hang."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Condition()
        self._faults: dict[str, Faults] = {}
        self._scripts: dict[str, deque[Answer]] = defaultdict(deque)
        self._rng = random.Random(seed)
        self._windows: dict[str, tuple[float, int]] = {}
        self._closed = False
        self.on_call: OnCall | None = None
        """Called with each call before it is answered, in the thread that answers it."""

    def get(self, provider: str) -> Faults:
        with self._lock:
            return self._faults.get(provider, Faults())

    def set(self, provider: str, faults: Faults) -> None:
        """Replace a provider's faults: `board.set("persona", Faults(outage=True))`."""
        with self._lock:
            self._faults[provider] = faults
            self._lock.notify_all()

    def clear(self, provider: str | None = None) -> None:
        """End one provider's faults, or everybody's."""
        with self._lock:
            for name in [provider] if provider else list(self._faults):
                self._faults.pop(name, None)
            self._lock.notify_all()

    def script(self, external_id: str, answers: Iterable[Answer]) -> None:
        """The next answers for one id, one for each call; then the truth is served again."""
        with self._lock:
            self._scripts[external_id].extend(answers)

    def pop_script(self, external_id: str | None) -> Answer | None:
        with self._lock:
            waiting = self._scripts.get(external_id) if external_id else None
            return waiting.popleft() if waiting else None

    def strikes(self, share: float) -> bool:
        """Whether a fault with this share strikes the present call."""
        with self._lock:
            return share >= 1 or self._rng.random() < share

    def wait_while_hanging(self, provider: str, seconds: float = 3600) -> None:
        """Return when the provider's `hang` is switched off, or the simulator ends."""
        with self._lock:
            self._lock.wait_for(lambda: self._closed or not self._faults.get(provider, Faults()).hang, timeout=seconds)

    def sleep(self, seconds: float) -> None:
        """Sleep, but end with the simulator."""
        with self._lock:
            self._lock.wait_for(lambda: self._closed, timeout=seconds)

    def close(self) -> None:
        """Let every sleeping and hanging call go."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def open(self) -> None:
        with self._lock:
            self._closed = False

    def take(self, provider: str, limit: int) -> tuple[bool, int, int]:
        """Count a call in the provider's window of a minute: whether it fits, how many remain, seconds to the next."""
        with self._lock:
            now = monotonic()
            start, used = self._windows.get(provider, (now, 0))
            if now - start >= 60:
                start, used = now, 0
            fits = used < limit
            used += fits
            self._windows[provider] = (start, used)
            return fits, limit - used, max(1, round(60 - (now - start)))

    def peek(self, provider: str, limit: int) -> tuple[int, int]:
        """How many calls remain in the present window, and the seconds until the next."""
        with self._lock:
            start, used = self._windows.get(provider, (monotonic(), 0))
            return max(0, limit - used), max(1, round(60 - (monotonic() - start)))

    def new_minute(self, provider: str) -> None:
        """Begin a fresh rate-limit window now, for tests that will not wait for one."""
        with self._lock:
            self._windows.pop(provider, None)
