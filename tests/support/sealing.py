"""The server's end of a TLS connection, with a say over each record and over the bytes on the wire."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Files = tuple[Path, Path]
"""Certificate and key."""


class Sealing:
    """Agrees on keys over a socket that blocks, and seals for it; nothing is sent unless it is asked to."""

    def __init__(
        self,
        sock: socket.socket,
        files: Files,
        *,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        named: Callable[[str | None], object] | None = None,
    ) -> None:
        """``named`` is told which host the client names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        context.minimum_version = context.maximum_version = version
        if named is not None:
            context.sni_callback = lambda _object, name, _context: named(name) and None
        self.socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake(self) -> None:
        """Agree on keys. Raises ssl.SSLError where the client does not."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._take()
            except ssl.SSLError:
                self._flush()  # says why
                raise
            else:
                return self._flush()

    def asked(self, size: int) -> bytes:
        """Receive so many bytes of the client's; fewer at the end, of which some Pythons make an error."""
        data = b""
        while len(data) < size:
            try:
                some = self._object.read(size - len(data))
            except ssl.SSLWantReadError:
                self._take()
                continue
            if not some:
                break
            data += some
        return data

    def records(self, *contents: bytes) -> bytes:
        """A record for each; of more than 16 KiB there are several."""
        for content in contents:
            self._object.write(content)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """What says that nothing more comes."""
        with suppress(ssl.SSLWantReadError):
            self._object.unwrap()
        return self._outgoing.read()

    def send(self, *contents: bytes) -> None:
        """Send a record for each."""
        self.socket.sendall(self.records(*contents))

    def _flush(self) -> None:
        self.socket.sendall(self._outgoing.read())

    def _take(self) -> None:
        data = self.socket.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
