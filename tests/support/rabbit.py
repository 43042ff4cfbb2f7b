"""A real RabbitMQ for the tests, with a node name, a port and a folder of its own. Nothing here knows Verisink."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import amqp

from tests.support.services import ServiceUnavailable, end, free_port, freeze, wait_until

DEBIAN_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""What Debian's /usr/sbin/rabbitmq-server runs after it has changed user, folder and output to the system service's."""

SYSTEM_PROGRAMS = "/usr/sbin"
"""Where administrators' programs are, which is not on everybody's PATH."""

QUIET = "+S 2 +sbwt none +sbwtdcpu none +sbwtdio none"
"""Erlang spins while it waits, which takes a small machine's processors from everybody else."""

CONNECTION_ERRORS = (OSError, amqp.AMQPError)


class RabbitServer:
    """A RabbitMQ server of our own, on loopback ports that it keeps when restarted, with an epmd of its own."""

    def __init__(self) -> None:
        self._program = self._find_program("rabbitmq-server", DEBIAN_PROGRAM)
        self._epmd_program = self._find_program("epmd")
        self.port, self._epmd_port, self._node_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.home = Path(tempfile.mkdtemp(prefix="verisink-rabbit-"))
        self._node = f"verisink-{uuid.uuid4().hex[:8]}@localhost"
        self.process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.home / "enabled_plugins").write_text("[].")
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 1MB\n"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self.process is None:
            raise RuntimeError("RabbitMQ is not running")
        return self.process.pid

    @property
    def epmd_pid(self) -> int:
        """The process id of the name service that every Erlang node needs."""
        if self._epmd is None:
            raise RuntimeError("epmd is not running")
        return self._epmd.pid

    def start(self) -> None:
        """Starts the server, or starts it again with the same data, and returns when it answers."""
        log = self.home / "log"
        with log.open("ab") as output:
            if self._epmd is None:
                self._epmd = self._popen([self._epmd_program], output.fileno())
            self.process = self._popen([self._program], output.fileno())
        try:
            wait_until(self._answers, self.process, log)
        except ServiceUnavailable:
            self.remove()
            raise

    def stop(self) -> None:
        """Lets the server end in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing answers, as on a stalled network."""
        freeze(self.pid)

    def resume(self) -> None:
        """Lets a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Ends the server for good, frozen or not, and deletes its data."""
        self.kill()
        if self._epmd is not None:
            end(self._epmd, signal.SIGKILL)
            self._epmd = None
        shutil.rmtree(self.home, ignore_errors=True)

    def _popen(self, command: list[str], output: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.home,
            env=self._environ(),
            process_group=0,
        )

    def _environ(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        home = str(self.home)
        return {
            **inherited,
            # Erlang keeps its cookie there.
            "HOME": home,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": home,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            # None of these is there: the system's are not read.
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{QUIET} -kernel inet_dist_use_interface {{127,0,0,1}}",
            # The script then becomes the server, and a signal reaches the right process.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        end(self.process, how)
        self.process = None

    def _answers(self) -> bool:
        try:
            with rabbit_connection(self.url):
                return True
        except CONNECTION_ERRORS:
            return False

    @staticmethod
    def _find_program(name: str, *preferred: Path) -> str:
        for path in preferred:
            if path.exists():
                return str(path)
        if program := shutil.which(name) or shutil.which(name, path=SYSTEM_PROGRAMS):
            return program
        raise ServiceUnavailable(f"RabbitMQ: no {name} on the PATH or in /usr/sbin")


def queue_counts(url: str, queue: str) -> tuple[int, int]:
    """How many messages a queue has, and how many consumers. Raises AMQPError if there is no such queue."""
    with rabbit_connection(url) as connection:
        declared = connection.channel().queue_declare(queue, passive=True)
    assert declared is not None
    _, messages, consumers = declared
    return int(messages), int(consumers)


def rabbit_connection(url: str, seconds: float = 5.0) -> amqp.Connection:
    """A connection to use in a `with`, which gives up soon."""
    parts = urlsplit(url)
    return amqp.Connection(
        host=f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
        connect_timeout=seconds,
        read_timeout=seconds,
    )
