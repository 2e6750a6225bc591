"""Credentials: what an origin is shown of who asks.

An `Auth` belongs to one origin. It is asked for headers for each request that goes there, and for no
other: whatever a redirect leads to elsewhere sees none of them. When the origin refuses, it may get
fresh ones, and the request is sent once more.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Protocol

import httpx

from mirror.http.places import Place

Headers = list[tuple[bytes, bytes]]


class Auth(Protocol):
    """Signs the requests to one origin. Safe for concurrent use by tasks of one trio run."""

    async def headers(self, method: str, where: Place, headers: Headers, body: bytes) -> Headers:
        """Return what is to be sent beside ``headers``, which hold the Host already.

        Args:
            method: of the request.
            where: its URL; ``where.url`` makes one, which costs as much as all the rest of a request.
            headers: what is sent besides.
            body: what is sent after them.

        Raises:
            AccessDenied: there are no credentials, or no fresh ones to be had.
            SetupError: they are there but cannot be used.
            Transient, Stalled: whoever gives them out does not answer now.
        """

    async def renew(self, refused: httpx.Response) -> bool:
        """Note that an origin refused (401, 403): True when another try has other credentials to show.

        It is called once for a request; ``refused`` has its body not read yet.
        """


class Fixed:
    """The same headers for every request, and no others when they are refused."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    async def headers(self, method: str, where: Place, headers: Headers, body: bytes) -> Headers:
        """Return the headers this was made with."""
        del method, where, headers, body
        return self._headers

    async def renew(self, refused: httpx.Response) -> bool:
        """There is nothing to renew."""
        del refused
        return False


def basic(user: str, password: str) -> Fixed:
    """Return what shows a user and a password in each request."""
    return Fixed([(b"Authorization", b"Basic " + b64encode(f"{user}:{password}".encode()))])


def bearer(token: str) -> Fixed:
    """Return what shows a token (ASCII) in each request."""
    return Fixed([(b"Authorization", b"Bearer " + token.encode("ascii"))])
