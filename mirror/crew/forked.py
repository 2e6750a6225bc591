"""The helpers of a run: forked at its start, called when there is enough to do, gone at its end."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import trio

from cache import Node
from mirror.crew.hands import Got
from mirror.crew.messages import BYTES, FRESH, MOST, Message, error, packed, unpacked
from mirror.namespace import Namespace
from mirror.traffic import Traffic

log = logging.getLogger(__name__)

MOST_PROCESSES = 4
"""Of a run, unless the user says otherwise: with more it is the disk or the link that bounds it."""
CALL = b"!"
END_SECONDS = 30.0
"""How long a helper may take for its end: it puts away what is under way."""


def size_of_crew(processes: int | None, jobs: int, traffic: Traffic) -> int:
    """How many processes share a run, this one included.

    Args:
        processes: what the user says; None: one for each CPU.
        jobs: files fetched at once; each process has one at least.
        traffic: each needs two connections, and a limit of bytes a second is one process's.
    """
    if traffic.bwlimit is not None:
        return 1
    wanted = min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if processes is None else processes
    return max(1, min(wanted, jobs, traffic.connections // 2))


def helpers_share(connections: int, processes: int) -> int:
    """How many of the connections of a run each helper has."""
    return connections // processes


def left_for_caller(connections: int, helpers: int) -> int:
    """How many are left for the files of the caller: one is for its listings."""
    return max(1, connections - helpers * helpers_share(connections, helpers + 1) - 1)


class HelperGone(Exception):
    """The helper ended, or was ended, before it answered."""


class Helper:
    """One of them, as seen by the process that it helps. See `mirror.crew.hands.Hands`."""

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
        else:
            log.log(message["level"], "%s", message["says"])

    async def fresh(self, node: Node) -> Node:
        """See `Hands`; raises `HelperGone` as well."""
        message = await self._ask(node, FRESH)
        assert self._namespace is not None
        return self._namespace.node(message["now"])

    async def fetch(self, node: Node) -> Got:
        """See `Hands`; raises `HelperGone` as well."""
        message = await self._ask(node, BYTES)
        return Got(message["fetched"], message["met"])

    async def _ask(self, node: Node, want: str) -> Message:
        answer = self._waiting[node.id] = _Answer()
        try:
            await self._tell({"node": node.id, "want": want})
            await answer.came.wait()
        finally:
            del self._waiting[node.id]
        if answer.message is None:
            raise HelperGone
        if "failed" in answer.message:
            raise error(answer.message)
        return answer.message

    async def end(self) -> None:
        """Say that there is no more to do, and wait until what it fetched is safe on disk."""
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


@contextmanager
def forked(count: int, work: Callable[[socket.socket], Awaitable[None]]) -> Iterator[list[Helper]]:
    """Fork helpers, and see to their end.

    In a process that has threads there are none: a fork would leave locked for ever what they hold.

    Args:
        count: how many.
        work: what each does in a trio run of its own once it is called.
    """
    helpers: list[Helper] = []
    try:
        for _ in range(count if threading.active_count() == 1 else 0):
            helpers.append(_fork(work, helpers))
        yield helpers
    finally:
        for helper in helpers:
            helper.leave()
        for helper in helpers:
            helper.bury()


def _fork(work: Callable[[socket.socket], Awaitable[None]], others: list[Helper]) -> Helper:
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        mine.close()
        for other in others:
            other.leave()  # else they would not see that the caller is gone
        _be_helper(work, its)
    its.close()
    return Helper(pid, mine)


def _descriptors() -> int:
    """Above the highest open descriptor of this process."""
    return max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1


def _be_helper(work: Callable[[socket.socket], Awaitable[None]], connection: socket.socket) -> NoReturn:
    """Wait for the call, work, and end without a look at what the process was before."""
    code = 1
    try:
        # Of whatever ends with its last descriptor nobody is to keep one here.
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, _descriptors())
        # Ctrl-C is for all processes of a terminal: the one that called says what becomes of its helpers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        random.seed()
        if connection.recv(len(CALL)):
            trio.run(work, connection)
        code = 0
    except Exception as exc:  # noqa: BLE001 - its end is the end of the process
        log.warning("a process that helped has failed: %r", exc)
    finally:
        os._exit(code)
