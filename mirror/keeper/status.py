"""The status socket: a running keeper tells anyone of the same user, or root, how it is.

A connection is the question. The answer: the keeper's own report, then the worker's statistics, which the
keeper passes on unread. Each is preceded by its length, so that neither has to be parsed to be sent.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

LENGTH = struct.Struct("!I")
_PATIENCE = 2.0
"""Seconds a client may take to read its answer: one that stopped must not hold up the keeper."""


def peer_uid(connection: socket.socket) -> int:
    """Who is at the other end of a Unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """What a worker said last. It is kept beyond the worker, so that no counter ever vanishes."""

    text: bytes = b"{}"
    """JSON, unread."""
    said_at: float | None = None
    """Monotonic time; None: no worker has said anything yet."""

    def age(self) -> float | None:
        """How old it is, in seconds."""
        return None if self.said_at is None else time.monotonic() - self.said_at


class StatusSocket:
    """Listens for questions, and keeps those who wait for the worker's part of the answer."""

    def __init__(self, path: Path, owner: int) -> None:
        """Listen at ``path``, taking the place of what a dead keeper left there. Raises OSError."""
        self.path = path
        self._owner = owner
        self._waiting: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._inode = path.lstat().st_ino
        self._socket.listen(16)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when someone asks."""
        return self._socket.fileno()

    def accept(self) -> bool:
        """Let one asker in; False when it may not ask or went away."""
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return False
        if peer_uid(connection) not in (0, self._owner):
            connection.close()
            return False
        connection.settimeout(_PATIENCE)
        self._waiting.append(connection)
        return True

    @property
    def asked(self) -> bool:
        """Whether anyone waits for an answer."""
        return bool(self._waiting)

    def answer(self, report: bytes, statistics: bytes) -> None:
        """Answer all who wait."""
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            # Whoever went away needs no answer.
            with connection, contextlib.suppress(OSError):
                for part in (report, statistics):
                    connection.sendall(LENGTH.pack(len(part)) + part)

    def close(self) -> None:
        """Stop listening and remove the socket.

        Not that of another keeper: one detached lazily lives on until its last user lets go, and by then
        another mount may answer at the same place.
        """
        for connection in self._waiting:
            connection.close()
        self._socket.close()
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
