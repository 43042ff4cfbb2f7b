"""The least that an acknowledgement can cost: a bare Flask route that commits one row, on the server of Verisink.

Run as `python -m bench.bare <port> <database URL>`. It keeps the body and nothing else, and checks nothing.
"""

import signal
import socket
import sys
import threading

import psycopg
from flask import Flask, Response, request

from web.http_server import serve

COUNT = "SELECT count(*) FROM bare_rows"
CREATE = (
    "CREATE TABLE IF NOT EXISTS bare_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)"
)
INSERT = "INSERT INTO bare_rows (body) VALUES (%s)"
LONGEST_BODY = 1_000_000
THREADS = 4


def make_app(url: str) -> Flask:
    """The application, with one connection to the database."""
    app = Flask("bare")
    connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
    connection.execute(CREATE)
    one_at_a_time = threading.Lock()

    @app.post("/webhooks/persona")
    def webhook() -> Response:
        with one_at_a_time:
            connection.execute(INSERT, (request.get_data(),), prepare=True)
        return Response(status=200)

    return app


def main() -> None:
    """Serve until told to stop."""
    port, url = int(sys.argv[1]), sys.argv[2]
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    server = serve(make_app(url), listener=listener, threads=THREADS, body_limit=lambda _path: LONGEST_BODY)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.run()


if __name__ == "__main__":
    main()
