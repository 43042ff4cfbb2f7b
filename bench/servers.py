"""WSGI servers side by side, for docs/decisions/0001: `python -m bench.servers`. Needs wrk and the servers named.

Every server runs the same Flask route: an HMAC over 1.5 KB, then a wait for a shared commit of 2 ms, as the receiver
does. Rounds alternate between the servers, so that a noisy machine is unfair to all of them alike.
"""

import argparse
import hashlib
import hmac
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from flask import Flask, request

PORT = 8917
KEY = b"k" * 32
BODY = '{"data":"' + "x" * 1480 + '"}'
SIGNATURE = hmac.digest(KEY, BODY.encode(), hashlib.sha256).hex()
COMMIT_SECONDS = 0.002
SCRIPT = f"""wrk.method = "POST"
wrk.body = [[{BODY}]]
wrk.headers["X-Signature"] = "{SIGNATURE}"
done = function(summary, latency)
  print(string.format("result %f %f %f %d", summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.errors.status))
end
"""


class SharedCommit:
    """Everyone who comes while a commit runs waits for the next one."""

    def __init__(self) -> None:
        self._some = threading.Condition()
        self._waiting: list[threading.Event] = []
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> None:
        mine = threading.Event()
        with self._some:
            self._waiting.append(mine)
            self._some.notify()
        mine.wait()

    def _run(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._waiting)
                group, self._waiting = self._waiting, []
            time.sleep(COMMIT_SECONDS)
            for event in group:
                event.set()


def make_app() -> Flask:
    app, commit = Flask("side-by-side"), SharedCommit()

    @app.post("/committed")
    def committed() -> tuple[dict[str, str], int]:
        signature = hmac.digest(KEY, request.get_data(), hashlib.sha256).hex()
        if not hmac.compare_digest(signature, request.headers.get("X-Signature", "")):
            return {"error": "signature"}, 401
        commit.wait()
        return {"status": "accepted"}, 200

    @app.post("/bare")
    def bare() -> dict[str, int]:
        return {"length": len(request.get_data())}

    return app


def serve(name: str, threads: int) -> None:
    """Serve in this process, with the library that is asked for and no other in memory."""
    app, listener = make_app(), None
    if name != "cheroot":
        listener = socket.create_server(("127.0.0.1", PORT), backlog=1024, reuse_port=True)
    if name == "ours":
        server = import_module("web.server").serve(
            app, host="", port=0, threads=threads, body_limit=lambda path: 1 << 20, listener=listener
        )
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        server.run()
    elif name == "waitress":
        # Without lookahead its loop spins once there are more connections than threads.
        options = {"channel_request_lookahead": 1, "asyncore_use_poll": True, "connection_limit": 1000}
        import_module("waitress").serve(app, sockets=[listener], threads=threads, _quiet=True, **options)
    elif name == "cheroot":
        server = import_module("cheroot.wsgi").Server(("127.0.0.1", PORT), app, numthreads=threads, max=threads)
        server.reuse_port = True
        server.start()


def commands(name: str, processes: int, threads: int) -> list[list[str]]:
    many = {
        "gunicorn": f"-k gthread -w {processes} --threads {threads} -b 127.0.0.1:{PORT} bench.servers:make_app()",
        "granian": f"--interface wsgi --workers {processes} --blocking-threads {threads} --port {PORT} --factory "
        "--no-ws --no-log bench.servers:make_app",
    }
    if name in many:
        return [[sys.executable, "-m", name, *many[name].split()]]
    return [[sys.executable, "-m", "bench.servers", "--serve", name, "--threads", str(threads)]] * processes


def measure(name: str, given: argparse.Namespace, script: Path) -> list[float]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **quiet) for command in commands(name, given.processes, given.threads)]
    try:
        time.sleep(2.5)
        url = f"http://127.0.0.1:{PORT}{given.path}"
        for seconds in (1, 3):
            wrk = ["wrk", "-t1", f"-c{given.connections}", f"-d{seconds}", "-s", str(script), url]
            output = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
        [result] = re.findall(r"result (\S+) (\S+) (\S+) (\d+)", output)
        return [float(number) for number in result]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    defaults = {"threads": 64, "processes": 1, "connections": 64, "rounds": 5, "path": "/committed"}
    for name, default in {**defaults, "servers": "ours,waitress,cheroot,gunicorn,granian"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve, given.threads)
    results = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(SCRIPT)
        for _ in range(given.rounds):
            for name in given.servers.split(","):
                results[name].append(measure(name, given, script))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in results.items()
    }
    for name, (rate, p50, p99, errors) in medians.items():
        ratio = rate / medians.get("waitress", medians[name])[0]
        sys.stdout.write(
            f"{name:10} {rate:7.0f}/s  x{ratio:.2f}  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  errors {errors:.0f}\n"
        )


if __name__ == "__main__":
    main()
