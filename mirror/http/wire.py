"""Sending and receiving off the event loop: `_wire`'s thread, for the tasks of one trio run.

For a small file, what the kernel does to send a request and receive the answer takes longer than all that
is decided about it. The thread does that part without the interpreter's lock, for all connections at once,
and the loop hears of each answer when all of it is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from mirror.http._wire import Io, Job, Tls

Exchange: TypeAlias = "Job[Told]"
Told: TypeAlias = "Callable[[Job[Any]], object]"
"""Called on the loop with each job that is finished."""


class HandshakeError(Exception):
    """No keys could be agreed on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """As OpenSSL calls it, such as ``WRONG_VERSION_NUMBER``."""


class UntrustedError(HandshakeError):
    """The server's certificate is not trusted; the reason says what it lacks, in words."""


class Wire:
    """The thread of one trio run."""

    def __init__(self) -> None:
        self._io: Io[Told] = Io()

    def begin(
        self,
        sock: trio.socket.SocketType,
        request: bytes | None,
        most: int,
        told: Told,
        *,
        least: int = 0,
        tls: Tls | None = None,
    ) -> Exchange:
        """Begin one job on a socket, which nobody else may use or close before ``told`` is called with it.

        See `_wire.Io.submit`.
        """
        return self._io.submit(sock.fileno(), request, most, told, least, tls)

    def cancel(self, job: Exchange) -> None:
        """Have a job finished at once; ``told`` is called all the same."""
        self._io.cancel(job)

    async def run(
        self,
        sock: trio.socket.SocketType,
        request: bytes | None,
        most: int,
        *,
        least: int = 0,
        tls: Tls | None = None,
    ) -> Exchange:
        """Do one job on a socket, which nobody else may use meanwhile; see `_wire.Io.submit`.

        Returns:
            The job, finished. One that is cut short by the end of the stream is no error.

        Raises:
            OSError: the connection broke.
        """
        job = await self._finished(lambda told: self.begin(sock, request, most, told, least=least, tls=tls))
        if job.error:
            raise OSError(job.error, _why(job.error, tls))
        return job

    async def shake(self, sock: trio.socket.SocketType, tls: Tls) -> None:
        """Agree on keys, and check the server's certificate. Nobody else may use the socket meanwhile.

        Raises:
            UntrustedError, HandshakeError: they cannot agree.
            OSError: the connection broke.
        """
        job = await self._finished(lambda told: self._io.shake(sock.fileno(), tls, told))
        if job.error == errno.EPROTO and tls.untrusted:
            raise UntrustedError(tls.reason)
        if job.error == errno.EPROTO:
            raise HandshakeError(tls.reason)
        if job.error == errno.ECONNABORTED:
            raise OSError("it was closed in the handshake")
        if job.error:
            raise OSError(job.error, os.strerror(job.error))

    async def _finished(self, begin: Callable[[Told], Exchange]) -> Exchange:
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        job = begin(lambda _: trio.lowlevel.reschedule(task))

        def abort(_: object) -> trio.lowlevel.Abort:
            # The socket is the thread's until it says otherwise, which it does at once.
            self._io.cancel(job)
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if job.error == errno.ECANCELED:
            await trio.lowlevel.checkpoint_if_cancelled()
        return job

    async def _hear(self) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._io.fileno())
                for job in self._io.done():
                    job.token(job)
        finally:
            self._io.close()


def _why(error: int, tls: Tls | None) -> str:
    return (tls.reason if tls is not None and error == errno.EPROTO else "") or os.strerror(error)


_wire: trio.lowlevel.RunVar[Wire] = trio.lowlevel.RunVar("mirror.http.wire")


def wire() -> Wire:
    """The one of this trio run; its thread is started when it is first needed, and ends with the run."""
    try:
        return _wire.get()
    except LookupError:
        made = Wire()
        _wire.set(made)
        trio.lowlevel.spawn_system_task(made._hear)  # noqa: SLF001 - it is its own
        return made
