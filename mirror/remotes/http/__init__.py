"""HTTP and HTTPS trees and files: listings, HEAD, ranged GET.

url          what a source string means, and where a redirect may lead
credentials  netrc, for the source's own origin
transport    httpx transport: a pool of HTTP/1.1 connections (connection: one; heads: what is said on it)
exchange     one request with its redirects; failures: what httpx raises, in our words
answers      what a status line and headers say, pure
parts        a body that is exact or an exception
clocks       whether the times in a listing are UTC
remote       the protocol of `mirror.remotes.base`, made of these
"""

from __future__ import annotations

from mirror.remotes.base import Remote
from mirror.remotes.http.remote import HttpRemote
from mirror.remotes.http.url import canonical

__all__ = ["HttpRemote", "canonical", "open_remote"]


def open_remote(url: str, *, deadline: float, connections: int, trust_env: bool) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    return HttpRemote(url, deadline=deadline, connections=connections, trust_env=trust_env)
