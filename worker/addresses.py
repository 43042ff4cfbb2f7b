"""Which addresses a call that is not meant for this network may go to.

A name is not proof: whoever owns it decides where it leads, and may decide otherwise a second later. So it is the
address that is judged, and the one that was judged is the one that is called.
"""

import socket
from collections.abc import Iterable
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address


class Reach(Enum):
    """Whose an address is."""

    PUBLIC = auto()
    PRIVATE = auto()
    NEVER = auto()


_PRIVATE = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)
"""This machine, and networks that their owners number themselves. What is neither these nor public (link-local,
multicast, unspecified, reserved) never is a receiver's address."""

_METADATA = frozenset(
    ip_address(address) for address in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds hand credentials to the machines in them, at addresses that look public or private. The usual one,
169.254.169.254, is link-local."""

_UNICAST = ip_network("2000::/3")
_TUNNELS = (ip_network("2002::/16"), ip_network("3fff::/20"))
"""6to4 holds an IPv4 address that a relay would call; 3fff::/20 is for documents, which older Pythons do not know."""

_OLD_V4 = (ip_network("192.0.0.0/24"), ip_network("192.88.99.0/24"))
"""Kept for protocols, and for relays that are no more. Older Pythons take nearly all of them for public."""

_NAT64 = ip_network("64:ff9b::/96")


def reach(address: str) -> Reach:
    """Whose the address is. Forms that hold an IPv4 address are judged by it. Raises ValueError for what is none."""
    found = _inner(ip_address(address))
    if found in _METADATA:
        return Reach.NEVER
    if any(found in network for network in _PRIVATE):
        return Reach.PRIVATE
    return Reach.PUBLIC if _is_public(found) else Reach.NEVER


def refused(addresses: Iterable[str], *, allow_private: bool) -> bool:
    """Whether one of a name's addresses is out of bounds. A name that leads both ways is not to be trusted at all."""
    allowed = {Reach.PUBLIC, Reach.PRIVATE} if allow_private else {Reach.PUBLIC}
    return not {reach(address) for address in addresses} <= allowed


def literal(host: str) -> str | None:
    """The address that `host` spells, also in the spellings that resolvers take (`0x7f.1`, `2130706433`); None for a
    name."""
    bare = host.strip("[]").rstrip(".")
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(bare))
    except (OSError, UnicodeError, ValueError):
        return None


def _inner(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _OLD_V4)
    return address in _UNICAST and not any(address in network for network in _TUNNELS)
