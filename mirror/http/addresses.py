"""Addresses that only this machine or its network can reach, and who may send us there.

An origin on the Internet that redirects to ``http://127.0.0.1:8500/`` or ``http://169.254.169.254/`` makes us
ask what it cannot ask itself. So where an answer came from a public address, what it redirects to has to be
at a public one. The address is judged that a connection has, not the name: a name may mean another one
each time it is looked up.
"""

from __future__ import annotations

import ipaddress


def is_public(address: str) -> bool:
    """Whether an address (as a socket names its peer) is one of the Internet's."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or _nat64(parsed)
        if inner is not None:
            parsed = inner
    return parsed.is_global and not parsed.is_multicast


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """What stands behind RFC 6052's well-known prefix."""
    if address in ipaddress.IPv6Network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
