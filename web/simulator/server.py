"""Runs the simulator in a thread of this process."""

import socket
import threading
from types import TracebackType
from typing import Self

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from web.simulator.app import create_app
from web.simulator.credentials import Credentials
from web.simulator.faults import FaultBoard
from web.simulator.gate import Site
from web.simulator.world import World

BACKLOG = 512
"""Connections that wait to be accepted: more than any test opens at once."""


class Simulator:
    """The world, its faults and its server. As a context manager it serves from entering to leaving.

    With `port=0` the system picks a free one; `url` says which.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        world: World | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.credentials = credentials or Credentials.generate(seed)
        self.world = world or World(seed, organization_id=self.credentials.gu1_organization_id)
        self.faults = FaultBoard(seed)
        self.app = create_app(Site(self.world, self.credentials, self.faults))
        self._host, self._port = host, port
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens. Fixed once it has started, also after a stop: starting again takes the same port."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> Self:
        """Raises OSError where the port is taken."""
        # The socket is made here because werkzeug ends the whole process when it cannot bind.
        with socket.create_server((self._host, self._port), backlog=BACKLOG) as listening:
            self._port = int(listening.getsockname()[1])
            self._server = make_server(
                self._host, self._port, self.app, threaded=True, request_handler=_QuietHandler, fd=listening.fileno()
            )
        self.faults.open()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="simulator", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, and let hanging calls go."""
        self.faults.close()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _QuietHandler(WSGIRequestHandler):
    """Serves without a line for each request: the world keeps a record of every call."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""
