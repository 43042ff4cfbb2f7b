"""Another host, as far as one machine can have it: a network namespace, joined to this one by a pair of interfaces.

What runs there shares no loopback with what runs here: it comes to PostgreSQL and Redis over an address, as from
elsewhere. It needs root; a machine without it skips what wants to use this.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.protocol import Unavailable

HERE, THERE = "198.18.118.1", "198.18.118.2"
"""From the range that is set aside for benchmarks of networks, so that it meets nobody's own addresses."""

PREFIX = 30


@dataclass(frozen=True, slots=True)
class SecondHost:
    """The other host. Its loopback is its own."""

    namespace: str
    here: str = HERE

    def command(self, *command: str) -> list[str]:
        """The same command, over there."""
        return ["ip", "netns", "exec", self.namespace, *command]


@contextmanager
def second_host() -> Iterator[SecondHost]:
    """Make it, and take it away again. Raises Unavailable."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise Unavailable("network namespaces can only be made by root, with `ip` of iproute2")
    namespace, outside, inside = (f"vs{os.getpid()}{end}" for end in ("", "a", "b"))
    try:
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
        for place, interface, address in (([], outside, HERE), (["-n", namespace], inside, THERE)):
            _ip(*place, "address", "add", f"{address}/{PREFIX}", "dev", interface)
            _ip(*place, "link", "set", interface, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        yield SecondHost(namespace)
    finally:
        # With one end the other goes, and the namespace with the last process in it.
        for command in (["link", "delete", outside], ["netns", "delete", namespace]):
            subprocess.run(["ip", *command], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"no network namespaces here: ip {' '.join(arguments)}: {done.stderr.strip()}")
