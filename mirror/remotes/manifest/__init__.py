"""Manifests as sources: a list of paths and URLs, on any hosts, becomes one tree.

url      what a source string means
origin   the manifest itself: asked whether it is a new one, and brought here
formats  JSON Lines, CSV, Parquet: a file in, rows of fields out
rows     one row: checked, or refused
links    the URLs in rows, resolved and checked
table    all rows, on disk: a tree that takes no memory
build    from a file to a table, in a thread
remote   the protocol of `mirror.remotes.base`
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.http import access
from mirror.remotes.base import Remote
from mirror.remotes.how import How
from mirror.remotes.http.url import canonical as canonical_base
from mirror.remotes.manifest.remote import ManifestRemote
from mirror.remotes.manifest.url import canonical, checked_base
from mirror.remotes.options import Option, Options, to_query

__all__ = ["OPTIONS", "ManifestRemote", "canonical", "key", "open_remote"]

OPTIONS: Sequence[Option] = (
    *access.OPTIONS,
    Option(
        "base", "the http or https folder that relative URLs in the list are below, instead of the list's own"
    ),
)


def key(url: str, options: Options) -> str:
    """Return the source under which everything is cached: the list, and what its relative URLs mean."""
    base = _base(url, options)
    return url if base is None else url + to_query({"base": base})


def open_remote(url: str, how: How) -> Remote:
    """Make the remote of a canonical source. See `mirror.remotes.open_remote`."""
    return ManifestRemote(url, how, key=key(url, how.options), base=_base(url, how.options))


def _base(url: str, options: Options) -> str | None:
    value = options.get("base")
    return None if value is None else checked_base(url, value, canonical_base)
