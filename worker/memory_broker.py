"""The broker of the embedded worker: kombu's queues in memory, whose consumer waits where kombu's own looks again and
again.

kombu asks an empty queue a hundred times a second, or makes every nudge wait for the next look. Here whoever puts a
message wakes the one who waits for it. `worker.celery_app` names this class to kombu.
"""

import threading
from queue import Empty

from kombu import Connection
from kombu.transport import memory

from worker.clock import monotonic


class _Changes:
    """How often something happened that a consumer may wait for: a message came, or there is room for one more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    def tell(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float | None) -> None:
        """Wait until more has happened than was `seen`. What happened before the call is not missed."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen, seconds)


class Channel(memory.Channel):
    """kombu's, which says when there is something to look at."""

    connection: "Transport"

    def _put(self, queue: str, message: object, **kwargs: object) -> None:
        super()._put(queue, message, **kwargs)
        Transport.changes.tell()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """A consumer that had as much in hand as it may have can take the next message."""
        super().basic_ack(delivery_tag, multiple)
        Transport.changes.tell()

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """The same."""
        super().basic_reject(delivery_tag, requeue)
        Transport.changes.tell()


class Transport(memory.Transport):
    """kombu's, with a consumer that sleeps until it is told."""

    Channel = Channel

    changes = _Changes()
    """One for the process, as kombu's queues are."""

    def drain_events(self, connection: Connection, timeout: float | None = None, **kwargs: object) -> None:
        """Deliver one message. Raises TimeoutError, which is `socket.timeout`, where none came, or where the connection
        was closed by another thread."""
        ends = None if timeout is None else monotonic() + timeout
        while self.channels and self.cycle is not None:
            # Asked before looking: what comes while it looks ends the wait at once.
            seen = self.changes.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = None if ends is None else ends - monotonic()
                if left is not None and left <= 0:
                    break
                self.changes.wait(seen, left)
            else:
                return
        raise TimeoutError

    def close_connection(self, connection: Connection) -> None:
        """Close it, and end the wait of whoever consumes from it."""
        super().close_connection(connection)
        self.changes.tell()
