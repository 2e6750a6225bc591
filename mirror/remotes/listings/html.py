"""HTML listings: the links below the folder, and what stands exactly beside them.

The link is the truth for name and kind: the text is shortened by nginx (50 characters), decorated by
``http.server`` (``name@``) and padded by Apache. Beside it stand size and time, of which is kept:

nginx        size in bytes (unless it was told to round), UTC to the minute
Caddy        size in bytes, UTC to the second
Apache       nothing: sizes are rounded from 1,000 bytes on, times are the server's local time
lighttpd     nothing: sizes are rounded always, times are the server's local time
http.server  has neither

A file of which the size is not known is asked about by itself, so "nothing" costs a request for
each file that somebody looks at, and never a wrong size.

A page is parsed slice by slice, cut between two entries, for a tree takes 50 times the memory of its page
where that is made to. A page that cannot be cut so is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from mirror.remotes.listings.links import Folder
from mirror.remotes.listings.rows import (
    MINUTE,
    MOST_LINKS,
    SECOND,
    NotAListingError,
    Row,
    refuse_cut,
    whole_number,
)
from mirror.times import nginx_date, rfc3339

Beside = Callable[[LexborNode], tuple[int | None, int | None, int]]
"""Size, time and the time's resolution of one link, as far as the page states them exactly."""

SLICE = 32 * 1024
"""Bytes of a page that are parsed at once, at least."""
LARGEST = 8 * SLICE
"""And at most; with it also what stands before the first entry."""

_NGINX_BESIDE = re.compile(r"\s+(\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d)\s+(-|\d+[KMG]?)\s*", re.ASCII)
_TITLE = re.compile(r"\s*(index of|directory (listing|index))\b", re.IGNORECASE)


def rows(body: bytes, url: str) -> Iterator[Row]:
    """Yield the rows of an HTML listing of the folder at ``url``.

    Raises:
        NotAListingError: nothing on the page says that it lists a folder.
    """
    folder = Folder(url)
    beside: Beside | None = None
    count = seen = 0
    for piece in _slices(body):
        page = LexborHTMLParser(piece)
        links = [(link, link.attributes.get("href") or "") for link in page.css("a")]
        seen += len(links)
        if seen > MOST_LINKS:
            raise NotAListingError(f"it has more than {MOST_LINKS:,} links")
        if beside is None:
            beside = _recognise(page, folder, links)
        for link, href in links:
            child = folder.child(href)
            if child is not None:
                name, is_folder = child
                size, mtime_ns, resolution_ns = beside(link)
                yield Row(name, is_folder, size, mtime_ns, resolution_ns)
                count += 1
    if beside is _beside_caddy:
        refuse_cut(count)


def _slices(body: bytes) -> Iterator[bytes]:
    """Cut a page where an entry begins: a table row, a list item, a line that begins with a link, a link.

    Raises:
        NotAListingError: there is no such place for too long.
    """
    mark, prefix = next(((mark, prefix) for mark, prefix in _MARKS if mark in body), _MARKS[-1])
    start = 0
    while len(body) - start > SLICE:
        cut = body.find(mark, start + SLICE, start + LARGEST)
        if cut < 0:
            if len(body) - start > LARGEST:
                raise NotAListingError(f"it has {LARGEST >> 10} KiB without an entry")
            break
        yield prefix + body[start:cut] if start else body[:cut]
        start = cut
    yield prefix + body[start:] if start else body


_MARKS = ((b"<tr", b"<table>"), (b"<li", b"<ul>"), (b"\n<a ", b""), (b"<a ", b""))


def _recognise(page: LexborHTMLParser, folder: Folder, links: list[tuple[LexborNode, str]]) -> Beside:
    """Find the evidence that this page lists a folder, and how to read what stands beside its links."""
    if page.css_first("tr.file > td > a > span.name") is not None:
        return _beside_caddy
    for heading in page.css("title, h1"):
        if _TITLE.match(heading.text()):
            return _beside_pre
    # No known title: a link one folder up that says so is what every listing page has.
    for link, href in links:
        text = link.text().strip().lower()
        if (text in ("..", "../") or "parent" in text) and folder.is_parent(href):
            return _beside_pre
    raise NotAListingError("it is a web page, but no list of files")


def _beside_pre(link: LexborNode) -> tuple[int | None, int | None, int]:
    """Text behind the link, in nginx's form or not at all."""
    text = link.next.text_content if link.next is not None else None
    found = _NGINX_BESIDE.fullmatch(text) if text is not None else None
    if found is None:
        return None, None, SECOND
    date, size = found.groups()
    return whole_number(size), nginx_date(date), MINUTE


def _beside_caddy(link: LexborNode) -> tuple[int | None, int | None, int]:
    """Cells behind the link's; the icon tells a link in the file system, whose size is its own."""
    cell = link.parent
    icon = link.css_first("use")
    if cell is None or (icon is not None and "shortcut" in str(icon.attributes)):
        return None, None, SECOND
    size: int | None = None
    mtime_ns: int | None = None
    while (cell := cell.next) is not None:
        if cell.is_element_node:
            order = cell.attributes.get("data-order") or ""
            size = size if (stated := whole_number(order)) is None else stated
            if (time := cell.css_first("time")) is not None:
                mtime_ns = rfc3339((time.attributes.get("datetime") or "").strip())
    return size, mtime_ns, SECOND
