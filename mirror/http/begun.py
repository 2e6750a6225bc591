"""A request that is on its way while nobody waits for its answer.

Most answers for small files are alike: all of one is there in one piece, and a few looks tell that it is
what was asked for. For such a one no task is needed. Whoever has begun many is told of each as it comes,
takes what is plain as it is, and goes on with all else as if it had just been asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mirror.http import heads
from mirror.http.connection import Asked, Connection, Origin
from mirror.http.wire import Exchange, wire

if TYPE_CHECKING:
    from mirror.http.transport import Transport


class Begun:
    """Made by `Transport.begin`. Ends with `finish`, or with the `Transport.ask` that goes on with it."""

    __slots__ = ("_job", "_origin", "_transport", "asked", "connection")

    def __init__(self, transport: Transport, origin: Origin, connection: Connection, asked: Asked) -> None:
        self.connection = connection
        self.asked = asked
        self._transport = transport
        self._origin = origin
        self._job: Exchange | None = None

    def sent(self, told: Callable[[Begun], None]) -> bool:
        """Send it; False: it cannot be sent so. ``told`` is called, once, with what came or did not."""
        self._job = self.connection.begin(self.asked, lambda _: told(self))
        return self._job is not None

    def cancel(self) -> None:
        """Wait no longer: it is told of at once, and counts as not answered in time."""
        wire().cancel(self._held())

    def whole(self) -> tuple[heads.UsualHead, memoryview] | None:
        """The head and the body of an answer that says 200 and is all there; None: of any other."""
        job = self._held()
        if job.error:
            return None
        data = memoryview(job)
        head = heads.usual(data)
        if head is None or head.status != 200 or len(data) != head.end + head.length:
            return None
        return head, data[head.end :]

    def finish(self, *, reusable: bool) -> None:
        """Give the connection back, or close it; all that came was taken."""
        self.taken()
        self._transport.release(self._origin, self.connection, reusable)

    def taken(self) -> Exchange:
        """What came, for whoever goes on with it; it knows us, so we forget it."""
        job, self._job = self._held(), None
        return job

    def _held(self) -> Exchange:
        assert self._job is not None, "it was sent, and has not ended"
        return self._job
