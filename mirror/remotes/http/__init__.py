"""HTTP and HTTPS trees and files: folders are the listing pages of a web server.

url     what a source string means
remote  the protocol of `mirror.remotes.base`, over `mirror.http`
clocks  whether the times in a listing are UTC
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.http.remote import HttpRemote
from mirror.remotes.http.url import canonical
from mirror.remotes.options import Option, Options

__all__ = ["OPTIONS", "HttpRemote", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = ()


def key(url: str, options: Options) -> str:
    """Return the source under which everything is cached: none of the options names another tree."""
    del options
    return url


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    return HttpRemote(url, deadline=how.deadline, connections=how.connections, trust_env=how.trust_env)
