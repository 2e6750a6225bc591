"""The worker's side of registrations: give the kernel a backing file, take it back.

Messages of a fixed form on a socket of their own, read by the keeper's C part and never answered. The
keeper looks at this socket before it looks at the answer to an OPEN: so a worker that registers a node
and then answers is sure that this very open is served by the kernel.
"""

from __future__ import annotations

import array
import socket
import struct

_MESSAGE = struct.Struct("=IIQ")
"""Operation, flags (0), node: ``struct control_message`` of the channel."""
_REGISTER = 1
_RETIRE = 2


class Registrar:
    """Sends registrations. Cheap and synchronous; safe from any thread, one message is one packet."""

    def __init__(self, control: socket.socket) -> None:
        """Take over the worker's end of the control socket."""
        self._socket = control

    def register(self, node: int, fd: int) -> None:
        """Give the kernel the complete file of a node.

        The descriptor must be a regular file opened read-only, on the cache's file system and owned by
        this user, else the keeper drops it. It stays the caller's. Again for a registered node is
        without effect. Raises OSError when the keeper is gone.
        """
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._socket.sendmsg([_MESSAGE.pack(_REGISTER, 0, node)], ancillary, socket.MSG_NOSIGNAL)

    def retire(self, node: int) -> None:
        """Take the backing file of a node back, once its last handle is released.

        Without effect for a node that has none. Raises OSError when the keeper is gone.
        """
        self._socket.sendmsg([_MESSAGE.pack(_RETIRE, 0, node)], [], socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
