"""Pages of ListObjectsV2: a query in, a page of XML out; no I/O.

Keys are asked for percent-encoded (``encoding-type=url``), because XML has no words for many characters
that a key may have. A page of 1,000 keys takes 6 ms, and a million files are a thousand of them: so
it is read by the parser in C, after one look that makes it harmless. XML without ``<!`` has no document type,
hence no entities of its own, nothing that could expand and nothing that reaches for another document.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

from mirror.http import answers

MAX_PAGE = 32 * 1024 * 1024
"""Most bytes of a page: 1,000 keys of 1,024 bytes, all of them percent-encoded, have 4 MiB."""

SECOND = 1_000_000_000
LARGEST = 2**63
_CODE = re.compile(rb"\s*(?:<\?xml[^<>]*\?>\s*)?<Error(?: [^<>]*)?>\s*<Code>([A-Za-z0-9.]{1,64})</Code>")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NotAPageError(ValueError):
    """It is no page of a listing; ``str()`` says how that shows."""


class Key(NamedTuple):
    """One object. A tuple, because there may be a million."""

    key: str
    size: int | None
    mtime_ns: int | None
    resolution_ns: int
    validator: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """One page."""

    keys: Sequence[Key]
    prefixes: Sequence[str]
    """What keys with a delimiter in their rest have in common."""
    cursor: str | None
    """Token of the next page; None: there is none."""

    def names(self) -> list[str]:
        """Return all that is on it."""
        return [*(key.key for key in self.keys), *self.prefixes]


@dataclass(frozen=True, slots=True)
class Said:
    """An error, as the origin says it."""

    code: str
    message: str
    region: str = ""
    storage_class: str = ""


def query(values: Mapping[str, str]) -> str:
    """Write the query of a question, encoded as its signature asks for."""
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(values.items()))


def page(body: bytes) -> Found | Said:
    """Read a page, or the error that came in its place (with a 200, at times).

    Raises:
        NotAPageError: it is neither.
    """
    root = _parsed(body)
    if root is None:
        raise NotAPageError("it is not XML")
    space, name = _named(root)
    if name == "Error":
        return _said(root, space)
    if name != "ListBucketResult":
        raise NotAPageError(f"it is XML, but no list of objects: {name[:40]!a}")
    try:
        return _page(root, space)
    except (ValueError, OverflowError) as exc:
        raise NotAPageError(f"its content makes no sense ({str(exc)[:80]!a})") from exc


def said(body: bytes) -> Said | None:
    """Read the body of an error; None: it is none of S3's."""
    root = _parsed(body) if body else None
    if root is None:
        # An error repeats the key, which may have what no XML can say. The code is plain all the same.
        code = _CODE.match(body)
        return None if code is None else Said(code[1].decode("ascii"), "")
    space, name = _named(root)
    return _said(root, space) if name == "Error" else None


def _parsed(body: bytes) -> ET.Element | None:
    # UTF-8, whatever the page says of itself: elsewhere a "<!" may look different. What begins as UTF-16
    # the parser reads as that all the same; there each bracket has a NUL beside it, which XML never has.
    if b"<!" in body or b"\0" in body:
        return None
    parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - without a document type nothing can expand
    try:
        parser.feed(body)
        root: ET.Element = parser.close()
    except ET.ParseError:
        return None
    return root


def _named(root: ET.Element) -> tuple[str, str]:
    """The name space of a page, as it stands before every name, and the name of its root."""
    space, brace, name = root.tag.rpartition("}")
    return space + brace, name


def _said(root: ET.Element, space: str) -> Said:
    code, message, region, storage = (
        (root.findtext(space + name) or "") for name in ("Code", "Message", "Region", "StorageClass")
    )
    return Said(code, message, region, storage)


def _page(root: ET.Element, space: str) -> Found:
    encoded = root.findtext(space + "EncodingType") == "url"
    key_tag, size_tag = space + "Key", space + "Size"
    time_tag, etag_tag = space + "LastModified", space + "ETag"
    keys = []
    for row in root.iterfind(space + "Contents"):
        text = row.findtext(key_tag)
        if not text:
            raise ValueError("an object without a key")
        mtime_ns, resolution = _time(row.findtext(time_tag))
        keys.append(
            Key(
                _decoded(text) if encoded else text,
                _size(row.findtext(size_tag)),
                mtime_ns,
                resolution,
                _validator(row.findtext(etag_tag) or ""),
            )
        )
    prefixes = [
        _decoded(text) if encoded else text
        for text in (row.findtext(space + "Prefix") or "" for row in root.iterfind(space + "CommonPrefixes"))
    ]
    after = None
    match root.findtext(space + "IsTruncated"):
        case "true":
            after = root.findtext(space + "NextContinuationToken")
            if not after:
                raise ValueError("there is more, but no token to ask for it")
        case "false" | None:
            pass
        case _:
            raise ValueError("it does not say whether there is more")
    return Found(keys, prefixes, after)


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    # surrogateescape: a key that is no UTF-8 is no name, and is left out as such.
    return unquote_plus(text, errors="surrogateescape")


def _size(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    size = int(text) if len(text) < 20 else LARGEST
    return size if size < LARGEST else None


def _validator(etag: str) -> str | None:
    # Some servers leave out the quotes here, and only here.
    return answers.strong(etag if etag.startswith('"') else f'"{etag}"' if etag.isalnum() else etag)


def _time(text: str | None) -> tuple[int | None, int]:
    """A time as ``2026-11-23T14:02:14.000Z``, and how exact it is, in nanoseconds."""
    try:
        since = datetime.fromisoformat(text or "") - _EPOCH
    except (ValueError, TypeError):  # TypeError: it has no zone
        return None, SECOND
    whole = (since.days * 86_400 + since.seconds) * SECOND
    # Amazon's are whole seconds, and are written with three zeros.
    return whole + since.microseconds * 1000, 1_000_000 if since.microseconds else SECOND
