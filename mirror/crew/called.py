"""The helpers of a run, as the process sees them that calls them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

import trio

from mirror.background import together
from mirror.crew.messages import CALL, END, MOST, Message, unpacked

log = logging.getLogger(__name__)

END_SECONDS = 30.0
"""How long a helper may take for its end: it puts away what is under way."""


Failed = Callable[[int, str, str, bool], None]
"""Takes what a helper could not fetch: node, path, why, and whether it is the origin that failed."""


class Helper:
    """One helper."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.fetched = 0
        """Files that it has fetched."""
        self.came = 0
        """Bytes that it has fetched over the network."""
        self.under_way = 0
        """Those of them that are of files which are not complete yet."""
        self._connection = connection
        self._ended = False
        self._gone = trio.Event()

    def call(self) -> None:
        """To be called in trio, before the others."""
        self._caller = trio.socket.from_stdlib_socket(self._connection)

    async def serve(self, failed: Failed) -> None:
        """Wake it, and hear what it says until it ends."""
        try:
            await self._caller.send(CALL)
            while packet := await self._caller.recv(MOST):
                self._hear(unpacked(packet), failed)
        except OSError:
            pass  # it was killed: as if it had said no more
        if not self._ended:
            log.warning("a process that helped has ended: the others go on without it")
        self._gone.set()

    def _hear(self, message: Message, failed: Failed) -> None:
        if "came" in message:
            self.fetched, self.came = message["fetched"], message["came"]
            self.under_way = message["under_way"]
        elif "failed" in message:
            failed(message["failed"], message["path"], message["why"], message["origin"])
        elif "ended" in message:
            self._ended = True
        else:
            log.log(message["level"], "%s", message["says"])

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._gone.is_set()

    async def end(self) -> None:
        """Say that all is done, and wait until it has ended."""
        with contextlib.suppress(OSError):
            await self._caller.send(END)
        with trio.move_on_after(END_SECONDS) as patience:
            await self._gone.wait()
        if patience.cancelled_caught:
            log.warning("a process that helped does not end: it is killed")

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


class Crew:
    """All helpers of one run, called or not."""

    def __init__(self, helpers: Sequence[Helper], nursery: trio.Nursery) -> None:
        """``nursery``: where they are heard."""
        self._helpers = helpers
        self._nursery = nursery
        self._called: Sequence[Helper] = ()

    def call(self, failed: Failed, changed: Callable[[int], None]) -> None:
        """Wake all of them. ``changed`` is told how many there are, now and whenever one has ended."""

        async def serve(helper: Helper) -> None:
            await helper.serve(failed)
            changed(sum(not each.gone for each in self._called))

        self._called = self._helpers
        for helper in self._called:
            helper.call()
            self._nursery.start_soon(serve, helper)
        changed(len(self._called))

    @property
    def fetched(self) -> int:
        """Files that they have fetched."""
        return sum(helper.fetched for helper in self._called)

    @property
    def came(self) -> int:
        """Bytes that they have fetched over the network."""
        return sum(helper.came for helper in self._called)

    @property
    def under_way(self) -> int:
        """Those of them that are of files which are not complete yet."""
        return sum(helper.under_way for helper in self._called)

    async def end(self) -> None:
        """Have them end, and wait until they have."""
        async with together() as nursery:
            for helper in self._called:
                nursery.start_soon(helper.end)
