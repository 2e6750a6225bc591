"""Requests signed with a key of the account: "Authorize with Shared Key", the form of 2015-02-21 and later.

What is signed is the method, eleven headers, those that begin with ``x-ms-``, the path and the query; the
service does the same, and refuses when the results differ, or the clocks by more than 15 minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import unquote

import httpx

from mirror.http.auth import Headers
from mirror.http.places import Place

_SIGNED = (
    b"content-encoding",
    b"content-language",
    b"content-length",
    b"content-md5",
    b"content-type",
    b"date",
    b"if-modified-since",
    b"if-match",
    b"if-none-match",
    b"if-unmodified-since",
    b"range",
)


class SharedKey:
    """The `mirror.http.auth.Auth` of a key."""

    def __init__(self, account: str, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._account = account
        self._signing = hmac.new(key, digestmod=hashlib.sha256)
        self._clock = clock
        self._second = -1
        self._date = b""

    async def headers(self, method: str, where: Place, headers: Headers, body: bytes) -> Headers:
        """Return the date and the signature of a request. See `mirror.http.auth.Auth`."""
        del body
        if (second := int(self._clock())) != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode("ascii")
        date = (b"x-ms-date", self._date)
        signing = self._signing.copy()
        signing.update(to_sign(method, where.target, [*headers, date], self._account))
        signature = base64.b64encode(signing.digest())
        return [date, (b"Authorization", b"SharedKey %b:%b" % (self._account.encode("ascii"), signature))]

    async def renew(self, refused: httpx.Response) -> bool:
        """There is no other key."""
        del refused
        return False


def to_sign(method: str, target: str, headers: Headers, account: str) -> bytes:
    """Return what the signature of a request is made of (StringToSign).

    Args:
        method: of the request.
        target: its path and query, quoted as they are sent.
        headers: all that is sent, the date among them; each name once.
        account: its name.
    """
    stated = {name.lower(): value for name, value in headers}
    own = sorted((name, value) for name, value in stated.items() if name.startswith(b"x-ms-"))
    path, _, query = target.partition("?")
    lines = [method.encode("ascii"), *(stated.get(name, b"") for name in _SIGNED)]
    lines += [b"%b:%b" % pair for pair in own]
    lines.append(f"/{account}{path}".encode("ascii"))
    if query:
        pairs = (pair.partition("=") for pair in query.split("&"))
        asked = sorted((unquote(name).lower(), unquote(value)) for name, _, value in pairs)
        lines += [f"{name}:{value}".encode() for name, value in asked]
    return b"\n".join(lines)
