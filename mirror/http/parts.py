"""Bodies: exactly the bytes that the head promised, at a speed that is one, or an exception."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO

import httpx
import trio

from cache.digests import Digest
from mirror.errors import ProtocolError, Stalled, Transient
from mirror.http.answers import Span, length
from mirror.http.connection import DELIMITED, Chunk
from mirror.http.failures import translated
from mirror.http.throttle import PROCESS
from mirror.remotes.base import Entry

SLOWEST = 1024
"""Bytes a second below which an origin that is waited for counts as stalled."""


def _raw(response: httpx.Response) -> AsyncIterator[Chunk]:
    """The bytes as they came: httpx's own iterators would add three layers to each chunk."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the answer of an asynchronous transport has an asynchronous body")
    return response.stream.__aiter__()


class Chunks:
    """The chunks of a body, errors in our words.

    Two rules end the wait for one: `Stalled` when no byte comes for ``deadline`` seconds, and when in
    ``deadline`` seconds of waiting fewer than `SLOWEST` bytes a second came, so that a byte now and
    then does not hold a reader for ever. The time between reads is the reader's and does not count.
    """

    def __init__(self, response: httpx.Response, where: object, deadline: float) -> None:
        self._chunks = _raw(response)
        self._where = where
        self._deadline = deadline
        self._waited = 0.0
        self._came = 0

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        asked_at = trio.current_time()
        try:
            chunk = await self._chunks.__anext__()
        except httpx.HTTPError as exc:
            raise translated(exc, self._where, self._deadline) from exc
        self._came += len(chunk)
        self._waited += trio.current_time() - asked_at
        if self._waited >= self._deadline:
            if self._came < SLOWEST * self._waited:
                raise Stalled(f"{self._where}: only {self._came} bytes came in {self._waited:.0f} s")
            self._waited = 0.0
            self._came = 0
        await PROCESS.spent(len(chunk))
        return chunk


class HttpPart:
    """The `mirror.remotes.base.Part` of one answer."""

    __slots__ = (
        "_chunks",
        "_left",
        "_where",
        "digest",
        "entry",
        "headers",
        "ranges",
        "size",
        "start",
        "stop",
    )

    def __init__(
        self,
        response: httpx.Response,
        span: Span,
        entry: Entry,
        *,
        ranges: bool,
        digest: Digest | None,
        where: object,
        deadline: float,
    ) -> None:
        if not response.extensions.get(DELIMITED, True):
            raise ProtocolError(f"{where}: the answer does not say where it ends, so a cut would not show")
        self.headers = response.headers
        """Of the answer, as they came."""
        self.start = span.start
        self.stop = span.stop
        self.size = span.size
        self.entry = entry
        self.ranges = ranges
        self.digest = digest
        self._left = None if span.stop is None else span.stop - span.start
        self._where = where
        self._chunks = Chunks(response, where, deadline)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            if self._left:
                raise Transient(f"{self._where}: the body ended {self._left} bytes early") from None
            raise
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise ProtocolError(f"{self._where}: the body is longer than it said")
        return chunk


async def read_whole(response: httpx.Response, where: object, deadline: float, most: int) -> bytes:
    """Read a body into memory.

    Raises:
        ProtocolError: it has more than ``most`` bytes.
        Transient, Stalled: as for any body.
    """
    body = BytesIO()  # it hands over what it has gathered without a copy
    # What says itself that it is too long is not read at all.
    _refuse_long(length(response.headers) or 0, where, most)
    async for chunk in Chunks(response, where, deadline):
        body.write(chunk)
        _refuse_long(body.tell(), where, most)
    return body.getvalue()


def _refuse_long(size: int, where: object, most: int) -> None:
    if size > most:
        raise ProtocolError(f"{where}: the page has more than {most >> 20} MiB")
