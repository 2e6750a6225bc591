"""A request that is on its way while nobody waits for its answer.

Most answers for small files are alike: all of one is there in one piece, and a few looks tell that it is
what was asked for. For such a one no task is needed. Whoever has begun many is told of each as it comes,
takes what is plain as it is, and goes on with all else as if it had just been asked for.

Over TLS an answer comes in two steps: what has come first says how much is to come, and when that is here
somebody is told.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from errno import EPROTO
from typing import TYPE_CHECKING

import trio

from mirror.http import heads
from mirror.http.connection import CHUNK, Asked, Chunk, Connection, Origin
from mirror.http.throttle import PROCESS
from mirror.http.tls import Tls
from mirror.http.wire import Exchange, wire

if TYPE_CHECKING:
    from mirror.http.transport import Transport

FIRST = 256 * 1024
"""Most bytes of a first step."""
MORE = 1024
"""Bytes that a second step takes beyond what it waits for: records may be smaller than they could be."""


class Begun:
    """Made by `Transport.begin`. Ends with `finish`, or with the `Transport.ask` that goes on with it.

    See `mirror.http.connection.Sent`.
    """

    __slots__ = (
        "_data",
        "_head",
        "_job",
        "_told",
        "_transport",
        "asked",
        "cancelled",
        "connection",
        "error",
        "origin",
    )

    def __init__(self, transport: Transport, origin: Origin, connection: Connection, asked: Asked) -> None:
        self.origin = origin
        self.connection = connection
        self.asked = asked
        self.cancelled = False
        self.error = 0
        self._data: Chunk = b""
        self._head: heads.UsualHead | None = None
        self._transport = transport
        self._told: Callable[[Begun], None] | None = None
        self._job: Exchange | None = None

    def send(self, told: Callable[[Begun], None]) -> bool:
        """Send it; False: it cannot be sent so. ``told`` is called, once, with what came or did not."""
        try:
            request = self.asked.written()
        except ValueError:
            return False  # who asks otherwise is told what is wrong with it
        stream, sock = self.connection.stream, self.connection.socket
        if not isinstance(stream, Tls):
            self._job = wire().begin(sock, request, PROCESS.most(CHUNK), self._came)
        elif (sealed := stream.sealed(request)) is not None:
            self._job = wire().begin(sock, sealed, FIRST, self._came_sealed, least=1)
        else:
            return False
        self._told = told
        return True

    def cancel(self) -> None:
        """Wait no longer: it is told of at once, and counts as not answered in time."""
        self.cancelled = True
        if self._job is not None:
            wire().cancel(self._job)

    def whole(self) -> tuple[heads.UsualHead, memoryview] | None:
        """The head and the body of an answer that says 200 and is all there; None: of any other."""
        if self.error or self.cancelled:
            return None
        head = self._head or heads.usual(self._data)
        if head is None or head.status != 200 or len(self._data) != head.end + head.length:
            return None
        return head, memoryview(self._data)[head.end :]

    def taken(self) -> Chunk:
        """See `mirror.http.connection.Sent.taken`; what came knows us, so we forget it."""
        data, self._data = self._data, b""
        return data

    def finish(self, *, reusable: bool) -> None:
        """Give the connection back, or close it; all that came was taken."""
        self.taken()
        self._transport.release(self.origin, self.connection, reusable)

    def _came(self, job: Exchange) -> None:
        self.error = job.error
        self._data = memoryview(job)
        self._tell()

    def _came_sealed(self, job: Exchange) -> None:
        """The first step has brought something."""
        self._open(job)
        self._head = None if self.error else heads.usual(self._data)
        if self._head is not None and not self.cancelled:
            left = self._head.end + min(self._head.length, CHUNK) - len(self._data)
            if left > 0:
                self._receive(left)
                return
        self._tell()

    def _receive(self, size: int) -> None:
        assert isinstance(self.connection.stream, Tls)
        least = max(1, self.connection.stream.least(size))
        self._job = wire().begin(
            self.connection.socket, None, least + MORE, self._came_rest, least=least, patient=True
        )

    def _came_rest(self, job: Exchange) -> None:
        self._open(job)
        self._tell()

    def _open(self, job: Exchange) -> None:
        assert isinstance(self.connection.stream, Tls)
        self.error = job.error
        try:
            self._data = bytes(self._data) + self.connection.stream.opened(memoryview(job))
        except (trio.BrokenResourceError, ssl.SSLError, ValueError):
            self.error = EPROTO

    def _tell(self) -> None:
        told, self._told, self._job = self._told, None, None
        assert told is not None, "it is told of once"
        told(self)
