"""A web process of `verisink web`.

Run as `python -m web.process <number of the listening socket> <process id of the supervisor> [--no-receive]`.
"""

# First, because it loads libraries that the others import.
from worker import lean

# isort: split
import socket
import sys

from web.supervising import NO_RECEIVE
from worker import log, metrics, settings
from worker.process import end_with_parent


def main() -> None:
    """Serve until told to stop."""
    loaded = settings.load()
    log.configure(loaded.log_level, loaded.log_format)
    end_with_parent(int(sys.argv[2]))
    metrics.PROCESS_STARTS.labels("web").inc()
    listener = socket.socket(fileno=int(sys.argv[1]))
    lean.load("web.serving").serve_receiver(loaded, listener, receives=NO_RECEIVE not in sys.argv[3:])


if __name__ == "__main__":
    main()
