"""TLS over a trio socket, made for large bodies.

`trio.SSLStream` takes 16 KiB from the socket at a time and hands each record on by itself: some 20 steps of
the event loop for what is one here. This one takes a mebibyte from the socket, decrypts all whole records of
it, and hands them on as one chunk. (A real `ssl.SSLSocket` would spare one copy, but OpenSSL asks the
kernel twice for every record, and Python does not let it read ahead.)

It takes one receiver and one sender, not both at once, as an HTTP/1.1 exchange has them. An end without
a goodbye is an end, as servers do it: lengths tell of a cut.
"""

from __future__ import annotations

import ssl

import trio

TAKEN = 1024 * 1024
"""Bytes taken from the socket at once."""
RECORD = 16 * 1024
"""Bytes of the largest record; one call of OpenSSL returns no more."""
OVERHEAD = 21
"""Bytes that a record has beside what it carries, at least: those of ChaCha20 in TLS 1.2."""


class Tls:
    """The client's end of a TLS connection. Raises as `trio.SSLStream` does."""

    def __init__(self, sock: trio.socket.SocketType, context: ssl.SSLContext, host: str) -> None:
        """Prepare; `handshake` comes first. ``host`` is whom the certificate has to name."""
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    @property
    def quiet(self) -> bool:
        """Whether nothing is left of what was taken from the socket."""
        return not self._incoming.pending and not self._object.pending()

    async def handshake(self) -> None:
        """Agree on keys, and check the certificate.

        Raises:
            trio.BrokenResourceError: that failed; the cause is chained.
        """
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._take():
                    raise trio.BrokenResourceError("it was closed in the handshake") from None
            except ssl.SSLError as exc:
                await self._flush()  # tells the other side why
                raise trio.BrokenResourceError from exc
            else:
                await self._flush()
                return

    async def send_all(self, data: bytes) -> None:
        """Send all of ``data``."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._object.write(left) :]
            except ssl.SSLWantReadError:
                await self._flush()
                await self._take()
            except ssl.SSLError as exc:
                raise trio.BrokenResourceError from exc
        await self._flush()

    def sealed(self, data: bytes) -> bytes | None:
        """What is to be sent for all of ``data``, by the caller; None: first something has to be received."""
        try:
            left = memoryview(data)
            while left:
                left = left[self._object.write(left) :]
        except ssl.SSLError:
            return None
        return self._outgoing.read()

    def opened(self, came: memoryview) -> bytes:
        """What was received by the caller holds, as far as it is whole. Raises as `receive_some`."""
        self._incoming.write(came)
        return self._decrypted(TAKEN) or b""

    def least(self, size: int) -> int:
        """Bytes that have to be received yet, at least, for ``size`` more of the other side's."""
        return size + -(-size // RECORD) * OVERHEAD - self._incoming.pending

    async def receive_some(self, most: int) -> bytes:
        """Return what has come, up to ``most`` bytes, at least one; ``b""`` at the end."""
        while True:
            data = self._decrypted(most)
            if self._outgoing.pending:
                await self._flush()
            if data is not None:
                # Others get their turn where we wait, once for each mebibyte.
                return data
            if not await self._take():
                self._incoming.write_eof()

    def _decrypted(self, most: int) -> bytes | None:
        """What the records at hand hold; None: no whole one is there."""
        pieces: list[bytes] = []
        read = self._object.read
        while most > 0:
            try:
                piece = read(min(most, RECORD))
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                piece = b""
            except ssl.SSLError as exc:
                if pieces:
                    break  # it comes again when these are used up
                raise trio.BrokenResourceError from exc
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces) if pieces else None

    async def _flush(self) -> None:
        data = self._outgoing.read()
        try:
            while data:
                data = data[await self._socket.send(data) :]
        except OSError as exc:
            raise _broken(exc) from exc

    async def _take(self) -> bool:
        """Take bytes from the socket; False at its end."""
        try:
            data = await self._socket.recv(TAKEN)
        except OSError as exc:
            raise _broken(exc) from exc
        if data:
            self._incoming.write(data)
        return bool(data)


def _broken(exc: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(str(exc))
