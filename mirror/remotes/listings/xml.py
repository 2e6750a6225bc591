"""XML listings: nginx with ``autoindex_format xml``.

    <?xml version="1.0"?>
    <list>
    <directory mtime="2026-11-23T14:02:14Z">d</directory>
    <file mtime="2026-11-23T14:02:14Z" size="1000">a.bin</file>
    </list>

Read with a pattern for exactly these elements and not with an XML parser: the server writes nothing
else, and what is not parsed cannot expand entities or reach for other documents.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from mirror.remotes.listings.rows import NotAListingError, Row
from mirror.times import rfc3339

_PAGE = re.compile(r"\s*<\?xml[^<>]*\?>\s*<list>(.*)</list>\s*", re.DOTALL)
_ELEMENT = re.compile(
    r'\s*<(file|directory|other) mtime="([^"<>]*)"(?: size="(\d{1,19})")?>([^<>]*)</\1>\s*', re.ASCII
)


def rows(body: bytes, _url: str) -> Iterator[Row]:
    """Yield the rows of an XML listing.

    Raises:
        NotAListingError: anything else than such a list, even at its very end.
    """
    page = _PAGE.fullmatch(body.decode(errors="surrogateescape"))
    if page is None:
        raise NotAListingError("it is XML, but no list of files")
    text = page[1]
    at = len(text) - len(text.lstrip())
    while at < len(text):
        found = _ELEMENT.match(text, at)
        if found is None:
            raise NotAListingError("it is XML, but no list of files")
        at = found.end()
        kind, mtime, size, name = found.groups()
        if kind != "other":
            yield Row(
                html.unescape(name),
                kind == "directory",
                int(size) if size is not None else None,
                rfc3339(mtime),
                quoted=False,
            )
