"""Listing pages: bytes in, entries out, no I/O.

Each format is a module with one function that turns the body of an answer into `Row`s, what the
page says in the page's own order; `collect` turns rows into entries by the rules that hold for all
formats. A page that no format recognises is an error: an error page, a login form or a home page
must never be taken for a folder that has lost its files.

What a format states exactly is kept, the rest is None and asked for by itself: ``1.2K`` is no size,
and a date in the server's own time zone is no time.
"""

from __future__ import annotations

from mirror.remotes.base import Entry
from mirror.remotes.listings import html, json, xml
from mirror.remotes.listings.rows import NotAListingError, Row, collect

__all__ = ["ACCEPT", "NotAListingError", "Row", "collect", "parse"]

ACCEPT = "application/json, text/html;q=0.9, application/xml;q=0.8, text/xml;q=0.8, */*;q=0.1"
"""What to ask for: Caddy answers with JSON, which is exact, when it is accepted."""

_FORMATS = {
    "application/json": json.rows,
    "application/xml": xml.rows,
    "text/xml": xml.rows,
    "text/html": html.rows,
    "application/xhtml+xml": html.rows,
}


def readable(content_type: str) -> bool:
    """Whether an answer of this Content-Type can be a listing at all (an empty one may be)."""
    return not content_type or _media_type(content_type) in _FORMATS


def parse(body: bytes, content_type: str, url: str) -> list[Entry]:
    """Parse the listing of the folder at ``url`` (as answered: after redirects, ends with ``/``).

    Raises:
        NotAListingError: no format recognises the page.
    """
    media_type = _media_type(content_type) or _sniff(body)
    try:
        rows = _FORMATS[media_type]
    except KeyError:
        raise NotAListingError(f"it is {media_type or 'of unknown type'}") from None
    return collect(rows(body, url), url)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _sniff(body: bytes) -> str:
    head = body[:512].lstrip().lower()
    if head.startswith((b"[", b"{")):
        return "application/json"
    if head.startswith(b"<?xml"):
        return "text/xml"
    return "text/html" if head.startswith((b"<html", b"<!doctype html", b"<h", b"<pre")) else ""
