"""A helper, as the process sees it that calls it. See `mirror.crew.hands.Hands`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time

import trio

from cache import Node
from mirror.crew.messages import BYTES, FRESH, MOST, Message, error, packed, unpacked
from mirror.namespace import Namespace

log = logging.getLogger(__name__)

CALL = b"!"
"""What wakes a helper."""
END_SECONDS = 30.0
"""How long a helper may take for its end: it puts away what is under way."""


class HelperGone(Exception):
    """The helper ended, or was ended, before it answered."""


class Helper:
    """One helper. Its files are fetched by others when it is gone."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.came = 0
        """Bytes that it has fetched over the network."""
        self.under_way = 0
        """Those of them that are of files which are not complete yet."""
        self._connection = connection
        self._caller: trio.socket.SocketType | None = None
        self._namespace: Namespace | None = None
        self._waiting: dict[int, _Answer] = {}
        self.safe = False
        """It has said that all that it fetched is safe on disk."""
        self._called = trio.Event()
        self._gone = trio.Event()

    async def serve(self, namespace: Namespace) -> None:
        """Wake it, and hear what it says until it ends. ``namespace``: in which to find nodes."""
        self._namespace = namespace
        self._caller = trio.socket.from_stdlib_socket(self._connection)
        try:
            await self._caller.send(CALL)
            self._called.set()
            while packet := await self._caller.recv(MOST):
                self._hear(unpacked(packet))
        except OSError:
            pass  # it was killed: as if it had said no more
        finally:
            self._gone.set()
            self._called.set()
            for answer in self._waiting.values():
                answer.came.set()

    def _hear(self, message: Message) -> None:
        if "node" in message:
            answer = self._waiting.get(message["node"])
            if answer is not None:
                answer.message = message
                answer.came.set()
        elif "came" in message:
            self.came, self.under_way = message["came"], message["under_way"]
        elif "safe" in message:
            self.safe = True
        else:
            log.log(message["level"], "%s", message["says"])

    async def fresh(self, node: Node) -> Node:
        """See `Hands`; raises `HelperGone` as well."""
        message = await self._ask(node, FRESH)
        assert self._namespace is not None
        return self._namespace.node(message["now"])

    async def fetch(self, path: str, node: Node) -> bool:
        """See `Hands`; raises `HelperGone` as well."""
        fetched: bool = (await self._ask(node, BYTES, path=path))["fetched"]
        return fetched

    async def _ask(self, node: Node, want: str, **more: str) -> Message:
        answer = self._waiting[node.id] = _Answer()
        try:
            await self._tell({"node": node.id, "want": want, **more})
            await answer.came.wait()
        finally:
            del self._waiting[node.id]
        if answer.message is None:
            raise HelperGone
        if "failed" in answer.message:
            raise error(answer.message)
        return answer.message

    async def end(self) -> None:
        """Say that there is no more to do, and wait until what it fetched is `safe`, or it is gone."""
        with contextlib.suppress(HelperGone):
            await self._tell({"end": True})
            await self._gone.wait()

    async def _tell(self, message: Message) -> None:
        await self._called.wait()
        if self._caller is None or self._gone.is_set():
            raise HelperGone
        try:
            await self._caller.send(packed(message))
        except OSError as exc:
            raise HelperGone from exc

    def bury(self) -> None:
        """Wait for its end, once it was left; kill it when that takes too long."""
        until = time.monotonic() + END_SECONDS
        # Where the process ignores SIGCHLD, as some are started, there is nothing to wait for.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > until:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.005)

    def leave(self) -> None:
        """Hang up: it ends by itself."""
        self._connection.close()


class _Answer:
    __slots__ = ("came", "message")

    def __init__(self) -> None:
        self.came = trio.Event()
        self.message: Message | None = None
