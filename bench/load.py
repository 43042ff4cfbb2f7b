"""A load generator cheap enough not to be the bottleneck: one process, one epoll loop, requests that are bytes already.

Closed loop: each connection sends its next webhook when the last was answered. With a rate it is open: webhooks are due
at fixed times whatever the server does, and one that finds every connection waiting is counted and never sent. Run as
`python -m bench.load '<plan as JSON>'`, so that its interpreter lock is its own; prints its report as JSON.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.protocol import Broken, Sample
from bench.statistics import percentile
from bench.webhooks import Sender, requests

ROOT = Path(__file__).parents[1]
READ_BYTES = 65_536
ANSWER_SECONDS = 30.0
"""After the last webhook, how long its answer may take. Longer than any server here holds a request."""

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: at most `count` webhooks, for at most `seconds`. With a `rate` a second the loop is open."""

    port: int
    secret: str
    count: int
    seconds: float
    connections: int = 64
    rate: float = 0.0
    resources: int = 0
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. Latencies are in milliseconds, of answers with 2xx and of all; `seconds` is the wall's."""

    seconds: float
    statuses: dict[str, int]
    rate: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    any_p99_ms: float
    reconnects: int
    unsent: int
    unanswered: int
    without_retry_after: int
    cpu_us: float
    """The generator's own cost, in microseconds of processor time for each request."""

    @property
    def acknowledged(self) -> int:
        """How many were answered with 2xx."""
        return sum(count for status, count in self.statuses.items() if status.startswith("2"))

    def only_acknowledged(self, who: str) -> None:
        """Raises Broken if anything but 2xx came."""
        if other := {status: count for status, count in self.statuses.items() if not status.startswith("2")}:
            raise Broken(f"{who} answered {other} besides {self.acknowledged} acknowledgements")

    def sample(self) -> Sample:
        """What the tables show of it."""
        return {
            "rate_per_s": self.rate,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "worst_ms": self.worst_ms,
            "generator_cpu_us": self.cpu_us,
        }


@dataclass(slots=True)
class Connection:
    """One connection, and what it waits for."""

    socket: socket.socket
    sent_at: float = 0.0
    pending: bytes = b""
    answer: bytes = b""
    busy: bool = False


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.prepared = requests(Sender(plan.secret, plan.resources, plan.batch), plan.count)
        self.prepared.reverse()
        self.statuses: Counter[str] = Counter()
        self.good: list[float] = []
        self.bad: list[float] = []
        self.reconnects = self.unsent = self.without_retry_after = 0
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        self._ends = 0.0
        self._busy = 0

    def run(self) -> Report:
        """Send and count. Raises OSError if nobody listens."""
        try:
            for _ in range(self.plan.connections):
                self._idle.append(self._connect())
            return self._run()
        finally:
            for connection in self._open.values():
                connection.socket.close()
            self._poll.close()

    def _run(self) -> Report:
        cpu, began = time.process_time(), time.monotonic()
        self._ends = began + self.plan.seconds
        if self.plan.rate:
            self._open_loop(began)
        else:
            self._closed_loop()
        # What is answered after the end was sent before it, so it counts, and the clock runs on until then.
        self._drain()
        return self._report(time.monotonic() - began, time.process_time() - cpu)

    def _closed_loop(self) -> None:
        while self._idle and self.prepared:
            self._send(self._idle.popleft(), time.monotonic())
        while self.prepared and time.monotonic() < self._ends:
            self._turn(1.0)
            now = time.monotonic()
            while self._idle and self.prepared and now < self._ends:
                self._send(self._idle.popleft(), now)

    def _open_loop(self, began: float) -> None:
        issued = 0
        while self.prepared and (now := time.monotonic()) < self._ends:
            while issued < (now - began) * self.plan.rate and self.prepared:
                issued += 1
                if self._idle:
                    self._send(self._idle.popleft(), now)
                else:
                    self.unsent += 1
            self._turn(max(0.0, min(began + issued / self.plan.rate, self._ends) - time.monotonic()))

    def _drain(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while self._busy and time.monotonic() < until:
            self._turn(0.1)

    def _connect(self) -> Connection:
        made = socket.create_connection(("127.0.0.1", self.plan.port), timeout=CONNECT_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        connection = Connection(made)
        self._open[made.fileno()] = connection
        self._poll.register(made, select.EPOLLIN)
        return connection

    def _send(self, connection: Connection, now: float) -> None:
        request = self.prepared.pop()
        connection.sent_at, connection.answer, connection.busy = now, b"", True
        self._busy += 1
        try:
            sent = connection.socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost(connection)
            return
        if sent < len(request):
            connection.pending = request[sent:]
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, timeout: float) -> None:
        for number, what in self._poll.poll(timeout):
            connection = self._open[number]
            if what & select.EPOLLOUT and connection.pending:
                self._flush(connection)
            if what & ~select.EPOLLOUT:
                self._receive(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            connection.pending = connection.pending[connection.socket.send(connection.pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._lost(connection)
            return
        if not connection.pending:
            self._poll.modify(connection.socket, select.EPOLLIN)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(connection)
            return
        answer = connection.answer = connection.answer + data if connection.answer else data
        head, complete, closes = examine(answer)
        if not complete:
            return
        self._count(connection, head)
        if closes or connection.pending:
            self._replace(connection)
        else:
            self._idle.append(connection)

    def _count(self, connection: Connection, head: bytes) -> None:
        took = time.monotonic() - connection.sent_at
        connection.busy = False
        self._busy -= 1
        status = head[9:12].decode("latin-1")
        self.statuses[status] += 1
        (self.good if head[9:10] == b"2" else self.bad).append(took)
        if status == "503" and b"\r\nretry-after:" not in head:
            self.without_retry_after += 1

    def _lost(self, connection: Connection) -> None:
        """The server closed: between two requests that is its right, in the middle of one it is an error."""
        if connection.busy:
            connection.busy = False
            self._busy -= 1
            self.statuses["closed"] += 1
        elif connection in self._idle:
            self._idle.remove(connection)
        self._replace(connection)

    def _replace(self, connection: Connection) -> None:
        self._poll.unregister(connection.socket)
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        self.reconnects += 1
        if time.monotonic() < self._ends:
            try:
                self._idle.append(self._connect())
            except OSError:
                self.statuses["refused"] += 1

    def _report(self, seconds: float, cpu: float) -> Report:
        self.good.sort()
        everything = sorted(self.good + self.bad)
        return Report(
            seconds=seconds,
            statuses=dict(sorted(self.statuses.items())),
            rate=len(self.good) / seconds,
            p50_ms=percentile(self.good, 50) * 1000,
            p99_ms=percentile(self.good, 99) * 1000,
            worst_ms=percentile(self.good, 100) * 1000,
            any_p99_ms=percentile(everything, 99) * 1000,
            reconnects=self.reconnects,
            unsent=self.unsent,
            unanswered=self._busy,
            without_retry_after=self.without_retry_after,
            cpu_us=cpu / max(1, len(everything)) * 1e6,
        )


def examine(answer: bytes) -> tuple[bytes, bool, bool]:
    """The head in lower case, whether the answer is whole, and whether the connection ends with it."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return b"", False, False
    head = head.lower()
    closes = b"\r\nconnection: close" in head
    _, named, rest = head.partition(b"\r\ncontent-length:")
    if named:
        return head, len(body) >= int(rest.partition(b"\r\n")[0]), closes
    return head, b"transfer-encoding: chunked" not in head or body.endswith(b"0\r\n\r\n"), closes


def drive(plan: Plan) -> Report:
    """Run a plan in a process of its own. Raises Broken if that fails, or if a webhook was left without an answer."""
    command = [sys.executable, "-m", "bench.load", json.dumps(asdict(plan))]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Broken(f"the load generator failed: {run.stderr[-500:]}")
    report = Report(**json.loads(run.stdout))
    if report.unanswered:
        raise Broken(f"{report.unanswered} webhooks had no answer after {ANSWER_SECONDS:.0f} s")
    return report


def main() -> None:
    """Run the plan that the command line gives."""
    report = Load(Plan(**json.loads(sys.argv[1]))).run()
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main()
