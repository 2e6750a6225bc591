"""Folders of WebDAV servers: Nextcloud, Apache's mod_dav, and many appliances.

multistatus  the answer to PROPFIND, as entries
remote       the protocol of `mirror.remotes.base`, over `mirror.http`
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from mirror.http import access
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.http import url as http_url
from mirror.remotes.options import Option, Options
from mirror.remotes.webdav.remote import WebdavRemote

__all__ = ["OPTIONS", "WebdavRemote", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = access.OPTIONS


def canonical(source: str) -> str:
    """Normalise a source; it is a folder, so it ends with a slash. Raises `UsageError`."""
    url = http_url.canonical(source)
    return url if url.endswith("/") else f"{url}/"


def key(url: str, options: Options) -> str:
    """Return the source under which everything is cached: none of the options names another tree."""
    del options
    return url


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    # webdav is http, webdavs is https.
    base = httpx.URL(url.replace("webdav", "http", 1))
    return WebdavRemote(url, base, access.open_client(base, how), access.credentials(base, how.options))
