"""A request that is on its way while nobody waits for its answer.

Most answers for small files are alike: all of one is there in one piece, and a few looks tell that it is
what was asked for. For such a one no task is needed. Whoever has begun many is told of each as it comes,
takes what is plain as it is, and goes on with all else as if it had just been asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mirror.http import heads
from mirror.http.connection import CHUNK, Asked, Chunk, Connection, Origin
from mirror.http.throttle import PROCESS
from mirror.http.wire import Exchange, wire

if TYPE_CHECKING:
    from mirror.http.transport import Transport


class Begun:
    """Made by `Transport.begin`. Ends with `finish`, or with the `Transport.ask` that goes on with it.

    See `mirror.http.connection.Sent`.
    """

    __slots__ = (
        "_data",
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
        self._transport = transport
        self._told: Callable[[Begun], None] | None = None
        self._job: Exchange | None = None

    def send(self, told: Callable[[Begun], None]) -> bool:
        """Send it; False: it cannot be sent so. ``told`` is called, once, with what came or did not."""
        try:
            request = self.asked.written()
        except ValueError:
            return False  # whoever asks for it otherwise is told what is wrong with it
        self._told = told
        connection = self.connection
        self._job = wire().begin(
            connection.socket, request, PROCESS.most(CHUNK), self._came, tls=connection.tls
        )
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
        head = heads.usual(self._data)
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
        told, self._told, self._job = self._told, None, None
        assert told is not None, "it is told of once"
        told(self)
