"""Whose an address is, in whatever form it comes."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.addresses import Reach, literal, reach, refused

INSIDE = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]
NOWHERE = [
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]


def addresses(networks):
    return st.sampled_from(networks).flatmap(lambda network: st.ip_addresses(network=ip_network(network)))


def forms(address: IPv4Address):
    """IPv6 forms that are called at the IPv4 address in them."""
    return [str(IPv6Address(prefix << 32 | int(address))) for prefix in (0xFFFF, 0x0064_FF9B_0000_0000_0000_0000)]


@given(addresses(INSIDE))
def test_networks_of_ones_own_are_private_in_every_form(address):
    # One of them is where a cloud keeps its credentials.
    expected = Reach.NEVER if str(address) == "100.100.100.200" else Reach.PRIVATE
    assert {reach(form) for form in [str(address), *forms(address)]} == {expected}


@given(addresses(NOWHERE))
def test_what_is_no_receiver_s_is_never_called_in_any_form(address):
    assert {reach(form) for form in [str(address), *forms(address)]} == {Reach.NEVER}


@given(st.ip_addresses(v=4))
def test_forms_agree_and_public_is_public(address):
    found = reach(str(address))
    assert {reach(form) for form in forms(address)} == {found}
    if found is Reach.PUBLIC:
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_tunnels_lead_nowhere(address):
    """A relay would call the address inside, wherever the relay stands."""
    six_to_four = IPv6Address(0x2002 << 112 | int(address) << 80 | 1)
    teredo = IPv6Address(0x2001_0000 << 96 | int(address) ^ 0xFFFF_FFFF)
    compatible = IPv6Address(int(address))
    assert Reach.PUBLIC not in {reach(str(form)) for form in (six_to_four, teredo, compatible)}


@given(st.ip_addresses(v=6))
def test_public_is_global_unicast(address):
    if reach(str(address)) is Reach.PUBLIC and address.ipv4_mapped is None:
        assert address in ip_network("2000::/3") or address in ip_network("64:ff9b::/96")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("64:ff9b::808:808", Reach.PUBLIC),
        ("::1", Reach.PRIVATE),
        ("fc00::1", Reach.PRIVATE),
        ("fdff::1", Reach.PRIVATE),
        ("169.254.169.254", Reach.NEVER),
        ("::ffff:169.254.169.254", Reach.NEVER),
        ("168.63.129.16", Reach.NEVER),
        ("fd00:ec2::254", Reach.NEVER),
        ("::", Reach.NEVER),
        ("fe80::1%eth0", Reach.NEVER),
        ("fec0::1", Reach.NEVER),
        ("ff02::1", Reach.NEVER),
        ("2001:db8::1", Reach.NEVER),
        ("3fff::1", Reach.NEVER),
        ("64:ff9b:1::a00:1", Reach.NEVER),
        ("255.255.255.255", Reach.NEVER),
    ],
)
def test_each_kind(address, expected):
    assert reach(address) is expected


@pytest.mark.parametrize("allow_private", [True, False])
def test_one_address_that_is_out_of_bounds_refuses_all(allow_private):
    assert not refused(["8.8.8.8", "2606:4700::1111"], allow_private=allow_private)
    assert refused(["8.8.8.8", "10.0.0.1"], allow_private=allow_private) is not allow_private
    assert refused(["8.8.8.8", "169.254.169.254"], allow_private=allow_private)


def spellings(address: IPv4Address):
    """What resolvers take for the address."""
    first, second, third, fourth = address.packed
    return st.sampled_from(
        [
            str(address),
            f"{address}.",
            str(int(address)),
            hex(int(address)),
            f"0{int(address):o}",
            f"{first:#x}.{second:#x}.{third:#x}.{fourth:#x}",
            f"0{first:o}.0{second:o}.0{third:o}.0{fourth:o}",
            f"{first}.{int.from_bytes(address.packed[1:])}",
            f"{first}.{second}.{int.from_bytes(address.packed[2:])}",
        ]
    )


def spelt(address: IPv4Address):
    return st.tuples(st.just(address), spellings(address))


@given(st.ip_addresses(v=4).map(lambda each: IPv4Address(int(each))).flatmap(spelt))
def test_an_address_is_seen_in_every_spelling(pair):
    address, spelling = pair
    assert literal(spelling) == str(address)
    if not spelling.endswith("."):
        found = socket.getaddrinfo(spelling, 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        assert {place[0] for *_, place in found} == {str(address)}


@given(st.ip_addresses(v=6))
def test_an_address_in_brackets_is_seen(address):
    assert literal(f"[{address.exploded}]") == str(address)


@pytest.mark.parametrize(
    "name", ["localhost", "receiver.example", "10.example", "xn--bcher-kva.example", "", "-1", "1.2.3.4.5"]
)
def test_a_name_is_no_address(name):
    assert literal(name) is None
