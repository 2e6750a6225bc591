"""Signatures: AWS's version 4, made by botocore. Each costs 35 to 40 µs of the processor.

Signed are the method, the host, the path with its query, and the headers of S3 itself; Range and If-Match
need not be, so whoever is on the way can at most ask for another part, which shows.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import httpx
from botocore.auth import S3SigV4Auth

from mirror.http.auth import Headers
from mirror.http.places import Place
from mirror.remotes.s3.credentials import Chain

SERVICE = "s3"


class _Request:
    """What botocore's signer needs of a request. Its own class for that costs as much as the signature."""

    __slots__ = ("body", "context", "headers", "method", "params", "url")

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.params = None
        self.context: dict[str, Any] = {}
        self.body = body


class Signing:
    """The `mirror.http.auth.Auth` of one origin in one region."""

    def __init__(self, chain: Chain, region: str, origin: httpx.URL) -> None:
        self._chain = chain
        self._region = region
        self._origin = f"{origin.scheme}://{origin.netloc.decode('ascii')}"
        self._signer: S3SigV4Auth | None = None
        self._serial = 0

    async def headers(self, method: str, where: Place, headers: Headers, body: bytes) -> Headers:
        """Return the signature, and what belongs to it."""
        held = await self._chain.current()
        if self._signer is None or held.serial != self._serial:
            self._signer = S3SigV4Auth(held.frozen, SERVICE, self._region)
            self._serial = held.serial
        signed = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in headers
            if name == b"Host" or name.startswith(b"x-amz-")
        }
        given = len(signed)
        self._signer.add_auth(_Request(method, self._origin + where.target, signed, body))
        # What was added stands behind what was given.
        return [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in islice(signed.items(), given, None)
        ]

    async def renew(self, refused: httpx.Response) -> bool:
        """Say no: the body tells whether other credentials would help, and the bucket reads that."""
        del refused
        return False
