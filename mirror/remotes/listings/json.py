"""JSON listings: nginx with ``autoindex_format json``, and Caddy's browse.

nginx   ``{"name": "a b", "type": "file", "mtime": "Mon, 23 Nov 2026 14:02:14 GMT", "size": 1000}``
Caddy   ``{"name": "d/", "url": "./d/", "size": 4096, "mod_time": "2026-…Z", "is_dir": true, …}``

nginx writes names as raw bytes, so a page may be no valid UTF-8 because of one file: such bytes
become lone surrogates, which refuses that name and no other. Caddy replaces them in ``name``, so
its ``url`` is the truth. Caddy states size and time of a link itself, not of what it leads to:
those are left open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mirror.remotes.listings.rows import NotAListingError, Row, refuse_cut
from mirror.times import http_date, rfc3339


def rows(body: bytes, _url: str) -> Iterator[Row]:
    """Yield the rows of a JSON listing.

    Raises:
        NotAListingError: the body is no JSON, or not a list of entries as one of these servers writes it.
    """
    try:
        page = json.loads(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as exc:
        raise NotAListingError("it is not valid JSON") from exc
    if not isinstance(page, list):
        raise NotAListingError("it is JSON, but no list of files")
    if page and isinstance(page[0], dict) and "is_dir" in page[0]:
        refuse_cut(len(page))
    return map(_row, (item for item in page if not _special(item)))


def _special(item: Any) -> bool:
    """Sockets, pipes and devices, which nginx lists and nobody can fetch."""
    return isinstance(item, dict) and item.get("type") == "other"


def _row(item: Any) -> Row:
    match item:
        case {"name": str(name), "type": "file" | "directory" as kind}:
            mtime = item.get("mtime")
            return Row(
                name,
                kind == "directory",
                _size(item.get("size")),
                http_date(mtime) if isinstance(mtime, str) else None,
                quoted=False,
            )
        case {"url": str(url), "is_dir": bool(folder)}:
            # Missing in older releases: then the state of a link cannot be told from a file's.
            link = item.get("is_symlink") is not False
            mtime = item.get("mod_time")
            name = url.removeprefix("./")
            return Row(
                name.removesuffix("/") if folder else name,
                folder,
                None if link else _size(item.get("size")),
                rfc3339(mtime) if isinstance(mtime, str) and not link else None,
                resolution_ns=1,
            )
    raise NotAListingError("it is JSON, but no list of files")


def _size(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
