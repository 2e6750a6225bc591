"""What the worker asks of the keeper, and hears from it: whether a file is let go, and how far the kernel is.

Both answers come over the control socket (`mirror.keeper.control`), in any order.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import struct
from collections import deque
from collections.abc import Collection

import trio

from mirror.keeper.control import Registrar, Told, Yielded

log = logging.getLogger(__name__)

YIELD_SECONDS = 1.0
"""How long the keeper may take to say whether a file is let go; it takes less than a millisecond unless it is
in trouble."""
_ASKED_AT_ONCE = 64
"""Questions without an answer yet: both directions of the socket hold several times as many."""

_MARK = struct.Struct("=IiQQ")
"""Header of a notification, then the number: ``struct notify_mark`` of the channel."""
_MARK_CODE = 0x4D41524B
NOTIFIED_AT_ONCE = 512
"""Notifications that a worker sends before it waits until they are told: the keeper holds several times as
many, and cuts off who sends more than that."""


class Questions:
    """Asks the keeper. Any number of tasks may, while `run` hears the answers."""

    def __init__(self, registrar: Registrar, fuse: int) -> None:
        """Ask over the registrar's socket, which nobody else may read from, of what goes over ``fuse``."""
        self._registrar = registrar
        self._fuse = fuse
        self._turn = trio.Lock()
        self._number = 0
        self._yielded, self._answers = trio.open_memory_channel[Yielded](math.inf)
        # Not that of a dead worker, whose mark may still be on its way.
        self._mark = secrets.randbits(62)
        self._told = trio.Event()

    async def run(self) -> None:
        """Hear answers until the keeper is gone."""
        with self._yielded:
            while True:
                await trio.lowlevel.wait_readable(self._registrar)
                try:
                    answer = self._registrar.hear()
                except BlockingIOError:
                    continue
                except OSError as exc:  # and so is the mount
                    log.info("the keeper answers nothing any more: %s", exc)
                    return
                if isinstance(answer, Yielded):
                    self._yielded.send_nowait(answer)
                elif isinstance(answer, Told) and answer.number == self._mark:
                    self._told.set()

    async def told(self) -> None:
        """Wait until the kernel got every notification that was sent before. For one task at a time.

        It waits for as long as the kernel makes the keeper wait, and for ever when the keeper is gone.
        Raises OSError when that is known.
        """
        self._mark += 1
        self._told = trio.Event()
        notice = _MARK.pack(_MARK.size, _MARK_CODE, 0, self._mark)
        await trio.to_thread.run_sync(os.write, self._fuse, notice)
        await self._told.wait()

    async def let_go(self, nodes: Collection[int]) -> set[int]:
        """Ask about each node, and return those whose file the keeper has not open any more (or never had).

        When the answer was given, no handle of the node was open and no OPEN was on its way; every OPEN
        after that reaches this worker, which has to look out for those that it answers meanwhile. A node
        counts as busy that has a source (`References.forget` it before), and so does one without an answer
        within `YIELD_SECONDS` or with a keeper that is gone: nothing is raised.
        """
        async with self._turn:
            gone: set[int] = set()
            with trio.move_on_after(YIELD_SECONDS):
                await self._ask(deque(dict.fromkeys(nodes)), gone)
            return gone

    async def _ask(self, nodes: deque[int], gone: set[int]) -> None:
        """Ask, some at once, and hear. What was asked by a call that ended early is answered here too."""
        asked: dict[int, int] = {}  # by number
        try:
            while nodes or asked:
                while nodes and len(asked) < _ASKED_AT_ONCE:
                    self._number = (self._number + 2) % (1 << 32)
                    try:
                        self._registrar.ask_to_yield(nodes[0], self._number)
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._registrar)
                        continue
                    asked[self._number] = nodes.popleft()
                answer = await self._answers.receive()
                if asked.pop(answer.number & ~1, None) == answer.node and answer.number & 1 == 0:
                    gone.add(answer.node)
        except (OSError, trio.EndOfChannel) as exc:  # it is gone, and so is the mount
            log.info("the keeper lets go of nothing any more: %s", exc)
