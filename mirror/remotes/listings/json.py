"""JSON listings: nginx with ``autoindex_format json``, and Caddy's browse.

nginx   ``{"name": "a b", "type": "file", "mtime": "Mon, 23 Nov 2026 14:02:14 GMT", "size": 1000}``
Caddy   ``{"name": "d/", "url": "./d/", "size": 4096, "mod_time": "2026-…Z", "is_dir": true, …}``

nginx writes names as raw bytes, so a page may be no valid UTF-8 because of one file: such bytes
become lone surrogates, which refuses that name and no other. Caddy replaces them in ``name``, so
its ``url`` is the truth. Caddy states size and time of a link itself, not of what it leads to:
those are left open.

The entries are read one by one: all of them at once take seven times the memory of the page.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from mirror.remotes.listings.rows import NotAListingError, Row, refuse_cut
from mirror.times import http_date, rfc3339


def rows(body: bytes, _url: str) -> Iterator[Row]:
    """Yield the rows of a JSON listing.

    Raises:
        NotAListingError: the body is no JSON, or not a list of entries as one of these servers writes it.
    """
    count, caddy = 0, False
    for item in _items(body):
        caddy = caddy or (count == 0 and isinstance(item, dict) and "is_dir" in item)
        count += 1
        if not _special(item):
            yield _row(item)
    if caddy:
        refuse_cut(count)


PIECE = 256 * 1024
"""Bytes of a page that are decoded at once, at least."""

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def _items(body: bytes) -> Iterator[Any]:
    """The items of a list, one by one."""
    text = _Text(body)
    first = text.next()
    if first != "[":
        raise NotAListingError("it is JSON, but no list of files" if first == "{" else "it is not valid JSON")
    text.at += 1
    if text.next() != "]":
        while True:
            yield text.item()
            if text.next() != ",":
                break
            text.at += 1
    if text.next() != "]":
        raise NotAListingError("it is not valid JSON")
    text.at += 1
    if text.next():
        raise NotAListingError("it is not valid JSON")


class _Text:
    """A page as text, a piece at a time: one character beyond Latin-1 makes text of four times its bytes."""

    def __init__(self, body: bytes) -> None:
        self.at = 0
        self._body = body
        self._taken = 0
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def _more(self) -> bool:
        """Take another piece, as large as what could not be read so far; False at the end of the page."""
        if self._taken >= len(self._body):
            return False
        left = self._text[self.at :]
        end = min(len(self._body), self._taken + max(PIECE, len(left)))
        piece = self._decoder.decode(self._body[self._taken : end], final=end == len(self._body))
        self._taken, self._text, self.at = end, left + piece, 0
        return True

    def next(self) -> str:
        """Pass over white space; the character behind it, or nothing at the end."""
        while True:
            found = _SPACE.match(self._text, self.at)
            self.at = self.at if found is None else found.end()
            if self.at < len(self._text) or not self._more():
                return self._text[self.at : self.at + 1]

    def item(self) -> Any:
        """Read one value. Raises `NotAListingError`."""
        self.next()
        while True:
            try:
                item, self.at = _DECODER.raw_decode(self._text, self.at)
            except RecursionError as exc:
                raise NotAListingError("it is not valid JSON") from exc
            except ValueError as exc:
                if not self._more():
                    raise NotAListingError("it is not valid JSON") from exc
            else:
                return item


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
