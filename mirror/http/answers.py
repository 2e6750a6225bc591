"""What the head of an answer says: pure functions from status and headers to values or errors.

Here is decided what is believed. A 206 is believed when it names exactly the bytes that were asked
for; a version is believed when its validator is strong and equal; anything that contradicts the request,
or itself, is a `ProtocolError`, and only 404 and 410 mean that something is not there.

A strong validator is a strong ETag. Where there is no ETag at all it is a Last-Modified that lies `SETTLED`
seconds before the answer's own Date (RFC 9110, section 8.8.2.2): a later change would have a later time. A
file that was changed just now can change again within the same second, so its time says nothing yet; and an
origin that calls its ETag weak says itself that the bytes may differ.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import NamedTuple

import httpx

from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    OriginFailed,
    ProtocolError,
    Transient,
    VersionChanged,
)
from mirror.times import SECOND, http_date

ETAG = "etag:"
"""Prefix of a validator that is an ETag; the rest is the header's value with its quotes."""
MODIFIED = "modified:"
"""Prefix of a validator that is a modification time; the rest is the value of Last-Modified."""
SETTLED = 60
"""Seconds between Last-Modified and Date that make the former strong: one is what the RFC asks for where both
come from one clock, and nobody can say whether they do."""

# Beyond ASCII nobody agrees on the encoding, so it could not be sent back as it came.
_STRONG = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)
_NO_RANGE = re.compile(r"bytes \*/(\d{1,19})", re.ASCII | re.IGNORECASE)


class Span(NamedTuple):
    """The bytes of a file that a body holds."""

    start: int
    stop: int | None
    """One past the last; None when only the end of the body will tell."""
    size: int | None
    """Of the whole file; None when the answer does not say."""


def failure(response: httpx.Response, where: object, *, conditional: bool) -> MirrorError:
    """Return the error that an answer without the asked-for body stands for.

    ``conditional``: the request named a range or a version, so 412 and 416 are answers to that.
    """
    status = response.status_code
    said = f"{where}: the server answered {status} {_phrase(status)}".rstrip()
    if status in (404, 410):
        return NotFound(said)
    if status in (401, 403, 407, 451):
        hint = {
            401: "; put credentials for the host into ~/.netrc or mirror.toml",
            403: "; it refuses access, or does not list this folder",
            407: "; that is the proxy: set proxy-user and proxy-password, the latter in mirror.toml",
        }
        return AccessDenied(said + hint.get(status, ""))
    if status in (412, 416) and conditional:
        return VersionChanged(f"{said}: it holds another version now")
    if status in (408, 421, 425, 429) or (status >= 500 and status not in (501, 505)):
        return Transient(said, retry_after(response.headers.get("retry-after")))
    if status < 400:
        return ProtocolError(f"{said}, which was not asked for")
    return OriginFailed(said)


def _phrase(status: int) -> str:
    # Not what the server wrote: that is its own text on our terminal.
    return HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds to wait from a Retry-After header (seconds or a date); None when it is neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    moment = http_date(value)
    if moment is None:
        return None
    return max(0.0, moment / SECOND - (time.time() if now is None else now))


def validator(headers: httpx.Headers) -> str | None:
    """Return the strong validator of an answer: its ETag, else its settled Last-Modified.

    A weak, malformed or non-ASCII ETag is none, and then there is no other.
    """
    return strong_etag(headers) if "etag" in headers else settled(headers)


def strong_etag(headers: httpx.Headers) -> str | None:
    """Return the strong ETag as a validator; a weak, malformed or non-ASCII one is none."""
    etag = headers.get("etag")
    return strong(etag) if etag is not None else None


def strong(etag: str) -> str | None:
    """Return the validator that an ETag is, quotes and all; None when it is weak or malformed."""
    return ETAG + etag if _STRONG.fullmatch(etag) else None


def settled(headers: httpx.Headers) -> str | None:
    """Return Last-Modified as a validator, if it is strong: see the module."""
    value = headers.get("last-modified")
    if value is None or (changed := http_date(value)) is None:
        return None
    date = http_date(headers.get("date", ""))
    return MODIFIED + value if date is not None and date - changed >= SETTLED * SECOND else None


def states(headers: httpx.Headers, expected: str) -> tuple[str | None, bool]:
    """Return what an answer has of the kind of ``expected``, and whether it names a version at all."""
    if not expected.startswith(MODIFIED):
        return strong_etag(headers), "etag" in headers
    value = headers.get("last-modified")
    # Another time is another version, however young it is; the same one has to be strong.
    return (None if value is None else MODIFIED + value), value is not None and (
        MODIFIED + value != expected or settled(headers) is not None
    )


def modified(headers: httpx.Headers) -> int | None:
    """Return Last-Modified in nanoseconds since the epoch."""
    value = headers.get("last-modified")
    return http_date(value) if value is not None else None


def length(headers: httpx.Headers) -> int | None:
    """Return the Content-Length, which the transport has checked to be one number."""
    value = headers.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def refuse_encoded(headers: httpx.Headers, where: object) -> None:
    """Raise `ProtocolError` when the body is not the file's own bytes."""
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise ProtocolError(f"{where}: the answer is compressed although that was refused")


def check_version(seen: str | None, expected: str, where: object, *, stated: bool) -> None:
    """Check that an answer is of the version that was asked for.

    Args:
        seen: its validator, None when it has none.
        expected: the validator that was asked for.
        where: what was asked, for the message.
        stated: it names a version at all, if only one that cannot be relied on.

    Raises:
        VersionChanged: it names another one.
        ProtocolError: it names none, so its bytes cannot be told from another version's.
    """
    if not stated:
        raise ProtocolError(f"{where}: the answer does not say of which version it is")
    if seen != expected:
        raise VersionChanged(f"{where}: the server holds another version now")


def whole(headers: httpx.Headers) -> Span:
    """Return the span of a 200."""
    size = length(headers)
    return Span(0, size, size)


def partial(headers: httpx.Headers, start: int, stop: int | None, where: object) -> Span:
    """Return the span of a 206, which must be exactly what was asked for.

    Asked for more than there is, a server answers with what there is. An answer to an open end
    must say where the file ends.

    Raises:
        ProtocolError: it is something else.
    """
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise ProtocolError(f"{where}: several ranges came where one was asked for")
    stated = headers.get("content-range", "")
    found = _RANGE.fullmatch(stated.strip())
    if found is None:
        raise ProtocolError(f"{where}: a part came without saying which (Content-Range: {stated!a})")
    first, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    end = stop if size is None else size if stop is None else min(stop, size)
    if first != start or end is None or last + 1 != end:
        wanted = f"{start}-{'' if stop is None else stop - 1}"
        raise ProtocolError(f"{where}: bytes {wanted} were asked for, {stated!a} came")
    if (stated_length := length(headers)) is not None and stated_length != end - start:
        raise ProtocolError(f"{where}: {stated!a} in a body of {stated_length} bytes")
    return Span(start, end, size)


def unsatisfied_size(headers: httpx.Headers) -> int | None:
    """Return the size of the whole file as a 416 states it."""
    found = _NO_RANGE.fullmatch(headers.get("content-range", "").strip())
    return int(found[1]) if found else None


def range_header(start: int, stop: int | None) -> str:
    """Return the Range header for bytes ``start`` to ``stop`` (None: the end)."""
    return f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"
