r"""The link: how keeper and worker speak about the worker itself, beside the FUSE messages.

One packet is one message: a letter, then its text. The keeper parses nothing of what a worker says
but the letter, an exit code and plain text; the worker's statistics pass through it unread.

    keeper -> worker   C generation token\n config   once, at the start
                       ?                             send statistics
                       O {u64 node, u64 seconds}*    opens that only the keeper saw (packed, native)
                       Q                             end
    worker -> keeper   P warning                     prepared: cache open, source checked, ready to mount
                       F code message                failed for good: end the mount, say this
                       S json                        statistics
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mirror.config import MountConfig

MESSAGE_MAX = 1 << 17
"""Bytes; more than any statistics."""
OPENED = struct.Struct("=QQ")
"""One open: node, epoch seconds; ``struct opened`` of the channel."""
OPENS_MAX = 4096
"""Opens in one message: half of what a message may have, and a fraction of what a socket takes."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Request(Enum):
    """What the keeper asks of a worker."""

    STATS = "?"
    """Send statistics."""
    QUIT = "Q"
    """End: the mount is gone. Also what a dead keeper means."""


@dataclass(frozen=True, slots=True)
class Opens:
    """Opens of complete files that the keeper answered by itself."""

    nodes: Sequence[tuple[int, float]]
    """Node, and epoch seconds of the open."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told at its start."""

    config: MountConfig
    """What to mount."""
    generation: int
    """How many workers have served this mount before."""
    token: bytes
    """What marks its references (`mirror.keeper.control.References`); nobody else knows it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The worker is ready to serve."""

    warning: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker can never serve this mount; starting it again would not help."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Stats:
    """The worker's statistics, unread JSON."""

    text: bytes


class WorkerEnd:
    """The worker's hold on the link. Everything blocks, and is short."""

    def __init__(self, end: socket.socket) -> None:
        """Take over the worker's end."""
        self._socket = end

    def fileno(self) -> int:
        """Readable when `receive` will not block."""
        return self._socket.fileno()

    def configuration(self) -> Assignment:
        """The first message."""
        head, _, text = self._socket.recv(MESSAGE_MAX).partition(b"\n")
        if head[:1] != b"C":
            raise EOFError("the keeper went away before it said what to do")
        generation, token = head[1:].decode().split(" ")
        return Assignment(MountConfig.from_json(text), int(generation), bytes.fromhex(token))

    def receive(self) -> Request | Opens:
        """The next request or news; the end of the link is `Request.QUIT`."""
        try:
            message = self._socket.recv(MESSAGE_MAX)
        except ConnectionResetError:
            message = b""
        if message[:1] == b"O":
            return Opens([(node, float(at)) for node, at in OPENED.iter_unpack(message[1:])])
        return Request.STATS if message == b"?" else Request.QUIT

    def prepared(self, warning: str | None = None) -> None:
        """Say that the cache is open and the source was checked."""
        self._send("P" + (warning or ""))

    def failed(self, message: str, code: int = 1) -> None:
        """Say why this mount cannot be: one line, and the exit code (1 or 2)."""
        self._send(f"F{code}{message}")

    def stats(self, text: str) -> None:
        """Answer `Request.STATS` with one JSON object."""
        self._send("S" + text)

    def _send(self, text: str) -> None:
        self._socket.sendall(text.encode(errors="backslashreplace")[:MESSAGE_MAX])


class KeeperEnd:
    """The keeper's hold on the link. Never blocks: a worker may hang."""

    def __init__(self, end: socket.socket) -> None:
        """Take over the keeper's end."""
        self._socket = end
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when `receive` has something."""
        return self._socket.fileno()

    def configure(self, assignment: Assignment) -> None:
        """Send the first message."""
        head = f"C{assignment.generation} {assignment.token.hex()}"
        self._socket.send(f"{head}\n{assignment.config.to_json()}".encode())

    def ask(self, request: Request) -> bool:
        """Send a request; False when the worker is gone or does not read any more."""
        try:
            self._socket.send(request.value.encode())
        except OSError:
            return False
        return True

    def has_room(self, seconds: float = 0.0) -> bool:
        """Whether the worker has read most of what it was sent, within so many seconds.

        A socket counts as writable while no more than a quarter of its buffer is unread: so what is only
        sent then leaves room for the requests. True as well when the worker is gone.
        """
        poll = select.poll()  # not select(): the keeper has more descriptors than that can name
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def opened(self, packed: bytes) -> bool:
        """Send opens, at most `OPENS_MAX` times `OPENED`; False as for `ask`."""
        try:
            self._socket.send(b"O" + packed)
        except OSError:
            return False
        return True

    def receive(self) -> Prepared | Failed | Stats | None:
        """The next message; None at the end or for what is not understood."""
        try:
            message = self._socket.recv(MESSAGE_MAX)
        except OSError:
            return None
        kind, body = message[:1], message[1:]
        if kind == b"P":
            return Prepared(_line(body) or None)
        if kind == b"F":
            reason = _line(body[1:]) or "the worker failed without a reason"
            return Failed(2 if body[:1] == b"2" else 1, reason)
        if kind == b"S":
            return Stats(body)
        return None

    def close(self) -> None:
        """Close the socket: to the worker this is `Request.QUIT`."""
        self._socket.close()


def _line(text: bytes) -> str:
    """One printable line of what a worker said."""
    return " ".join(text.decode(errors="backslashreplace").split())
