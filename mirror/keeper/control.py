"""The worker's side of registrations, references and names: what the keeper needs to answer by itself.

Messages of a fixed form on a socket of their own, read by the keeper's C part; only YIELD is answered
(`mirror.keeper.questions`). The keeper looks at this socket before it looks at the answer to an OPEN: so a
worker that registers a node and then answers is sure that this very open is served by the kernel.

In the same way a READ can be answered by *reference*: instead of the bytes the worker returns a few
words that say where in a file of the cache they lie, and the keeper reads them from there. That file was
offered as the node's *source* before.
"""

from __future__ import annotations

import array
import socket
import struct
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

_MESSAGE = struct.Struct("=IIQ")
"""Operation, number of the source or 0, node: ``struct control_message`` of the channel."""
_REGISTER = 1
_RETIRE = 2
_SOURCE = 3
_FORGET_SOURCE = 4
_YIELD = 5
_TOLD = 6
_NAMES = 7

_NAME = struct.Struct("=4Q2I3Q3q10IB")
"""``struct fuse_entry_out`` of the kernel's protocol, and the length of the name that follows."""
NAMES_AT_ONCE = 128
"""Names in one message: with the longest names it still fits into the keeper's buffer."""

_REFERENCE = struct.Struct("=16sQII")
"""Token, offset, size, number of the source: ``struct reference`` of the channel."""
MAX_SOURCES = 256
"""Sources that the keeper holds for one worker."""
MAX_REFERENCE = 1 << 20
"""Bytes in one reference at most: the kernel's largest READ."""


def packed_name(
    name: bytes,
    *,
    node: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    block: int,
    time_ns: int,
    timeout: float,
) -> bytes:
    """What a look-up of a name is answered, for `Registrar.names`.

    Args:
        name: 1 to 255 bytes.
        node: its node.
        mode: type and permissions.
        uid: owner.
        gid: group.
        size: bytes.
        block: bytes that are best read at once.
        time_ns: the time of all kinds, in nanoseconds since the epoch.
        timeout: seconds for which the kernel may keep all of it.
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    whole = int(timeout)
    part = int((timeout - whole) * 1e9)
    # fmt: off
    return _NAME.pack(
        node, 0, whole, whole, part, part,
        node, size, -(-size // 512), seconds, seconds, seconds,
        nanoseconds, nanoseconds, nanoseconds, mode, 1, uid, gid, 0, block, 0,
        len(name),
    ) + name
    # fmt: on


class Yielded(NamedTuple):
    """The answer to `Registrar.ask_to_yield`."""

    node: int
    number: int
    """That of the question, raised by one when the node is busy."""


class Told(NamedTuple):
    """The kernel has got all notifications that were sent before a mark."""

    number: int


class Registrar:
    """Sends registrations. Cheap and synchronous; safe from any thread, one message is one packet."""

    def __init__(self, control: socket.socket) -> None:
        """Take over the worker's end of the control socket."""
        self._socket = control

    def register(self, node: int, fd: int) -> None:
        """Give the kernel the complete file of a node; where it does not take it, the keeper holds it.

        A lock on the descriptor (``flock``) lasts until the keeper lets the file go: never while a handle of
        the node is open, except that at its limit, with every file open, it takes no more. The descriptor
        must be a regular file opened read-only, on the cache's file system and owned by this user, else the
        keeper drops it. It stays the caller's, to be closed and not unlocked: that would unlock both.

        Again for a node whose file the kernel has is without effect; a file that is only held is replaced.
        Raises OSError when the keeper is gone.
        """
        self._send(_REGISTER, 0, node, fd)

    def retire(self, node: int) -> None:
        """Let the file of a node go, once its last handle is released.

        Without effect for a node that has none. Raises OSError when the keeper is gone.
        """
        self._send(_RETIRE, 0, node)

    def source(self, node: int, number: int, fd: int) -> None:
        """Offer a file that answers to READs of a node may refer to, in place of the one it has.

        The number must never have been used by this process; `References` sees to that. The descriptor
        as in `register`. Raises OSError when the keeper is gone.
        """
        self._send(_SOURCE, number, node, fd)

    def forget_source(self, node: int) -> None:
        """Take the source of a node back: answers that were given before may still refer to it.

        Without effect for a node that has none. Raises OSError when the keeper is gone.
        """
        self._send(_FORGET_SOURCE, 0, node)

    def names(self, folder: int, names: Iterable[bytes]) -> None:
        """Have the keeper answer one look-up of each `packed_name` of a folder, `NAMES_AT_ONCE` at most.

        They must be as the index has them at this moment, without having awaited anything since. What the
        kernel is told to forget later the keeper forgets, too. Raises OSError when it is gone.
        """
        self._socket.send(_MESSAGE.pack(_NAMES, 0, folder) + b"".join(names), socket.MSG_NOSIGNAL)

    def fileno(self) -> int:
        """Readable when the keeper has answered; for `Questions` alone."""
        return self._socket.fileno()

    def ask_to_yield(self, node: int, number: int) -> None:
        """Ask the keeper to let the file of a node go; see `Questions`. Never blocks.

        Raises BlockingIOError when the keeper does not read, OSError when it is gone.
        """
        self._socket.send(_MESSAGE.pack(_YIELD, number, node), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def hear(self) -> Yielded | Told | None:
        """The next thing that the keeper says; None for what makes no sense.

        Never blocks. Raises BlockingIOError when there is nothing, OSError when the keeper is gone.
        """
        message = self._socket.recv(_MESSAGE.size, socket.MSG_DONTWAIT)
        if not message:
            raise ConnectionResetError("the keeper is gone")
        if len(message) != _MESSAGE.size:
            return None
        operation, number, node = _MESSAGE.unpack(message)
        if operation == _YIELD:
            return Yielded(node, number)
        return Told(node) if operation == _TOLD else None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, operation: int, number: int, node: int, fd: int | None = None) -> None:
        ancillary = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._socket.sendmsg([_MESSAGE.pack(operation, number, node)], ancillary, socket.MSG_NOSIGNAL)


class References:
    """The sources of one worker, and the answers that refer to them. For one thread.

    An answer must be given to the kernel without waiting in between, and before its node's source is
    forgotten or replaced: what was answered first is then resolved first.
    """

    def __init__(self, registrar: Registrar, token: bytes) -> None:
        """Mark references with the ``token`` that the keeper gave this worker."""
        self._registrar = registrar
        self._token = token
        self._numbers: OrderedDict[int, int] = OrderedDict()  # by node, the one used last at the end
        self._last_number = 0

    def __contains__(self, node: int) -> bool:
        """Whether the node has a source."""
        return node in self._numbers

    def offer(self, node: int, fd: int) -> None:
        """Make a file the source of a node; the one used longest ago makes room.

        As `Registrar.source`, which see for the descriptor. Raises OSError when the keeper is gone.
        """
        if node not in self._numbers and len(self._numbers) == MAX_SOURCES:
            self.forget(next(iter(self._numbers)))
        self._last_number += 1
        self._registrar.source(node, self._last_number, fd)
        self._numbers[node] = self._last_number
        self._numbers.move_to_end(node)

    def forget(self, node: int) -> None:
        """Take the source of a node back; one that has none is left alone.

        Raises OSError when the keeper is gone.
        """
        if self._numbers.pop(node, None) is not None:
            self._registrar.forget_source(node)

    def payload(self, node: int, offset: int, size: int) -> bytes:
        """The answer to a READ of the node: ``size`` bytes at ``offset`` of its source.

        All of them must be there: fewer make the read fail with EIO. At most `MAX_REFERENCE`, and never
        more than the READ asked for. Raises KeyError when the node has no source.
        """
        number = self._numbers[node]
        self._numbers.move_to_end(node)
        return _REFERENCE.pack(self._token, offset, size, number)
