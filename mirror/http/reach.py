"""How far inside an address is: a redirect never leads further inside than where it came from.

Whoever answers us from the internet must not make us ask our own machine, the metadata service of a cloud
or a neighbour. What counts is the address that a connection has, not the name in the URL: a name can mean
another address each time that it is looked up.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache

import httpx

REACH = "mirror.reach"
"""Extension of a request: how far inside it may go. Of a response: how far inside it came from."""


class Reach(IntEnum):
    """From the outermost to the innermost."""

    PUBLIC = 0
    PRIVATE = 1
    """Private, shared and unique local addresses, and all that is of no public use."""
    LINK_LOCAL = 2
    """The same link; the metadata services of clouds are there."""
    LOOPBACK = 3
    """This machine."""

    def __str__(self) -> str:
        return f"a {self.name.lower().replace('_', '-')} address"


class OutOfReachError(httpx.ConnectError):
    """A redirect led to an address that is further inside; nothing was sent there."""


@lru_cache(maxsize=1024)
def reach_of(address: str) -> Reach:
    """Return how far inside an IP address is; one that is none is not inside."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Reach.PUBLIC
    if isinstance(ip, ipaddress.IPv6Address):
        # An address of the old kind in one of the new: what counts is where it leads.
        inner = ip.ipv4_mapped or ip.sixtofour or _translated(ip)
        if inner is not None:
            return reach_of(str(inner))
    if ip.is_loopback or ip.is_unspecified:
        return Reach.LOOPBACK
    if ip.is_link_local:
        return Reach.LINK_LOCAL
    return Reach.PUBLIC if ip.is_global else Reach.PRIVATE


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _translated(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
