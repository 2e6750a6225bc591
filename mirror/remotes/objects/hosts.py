"""What may be concluded from where an endpoint is."""

from __future__ import annotations

from ipaddress import ip_address

import httpx


def loopback(url: str) -> bool:
    """Whether a URL leads to this machine, so that nobody else sees what is sent there."""
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
