"""How many requests run at once, and who goes first.

A blocked reader comes before read-ahead, read-ahead before warming. A few slots are kept free of
everything but readers, so that a demand never queues behind a window of neighbours. Priorities are
read when a slot becomes free, not when it was asked for: a fill that a reader starts to wait for
moves to the front.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

import trio


class Priority(IntEnum):
    """Why bytes are fetched; the smaller goes first."""

    DEMAND = 0
    """A reader is blocked."""
    AHEAD = 1
    """A reader will want it soon."""
    WARM = 2
    """Somebody will want it some day."""


class Slots:
    """A limit on requests under way, with priorities."""

    def __init__(self, total: int, reserved: int) -> None:
        """Allow ``total`` requests at once, ``reserved`` of them for `Priority.DEMAND` only."""
        self.total = total
        self._free = total
        self._reserved = reserved
        self._queue: list[tuple[Callable[[], Priority], trio.Event]] = []

    @property
    def held(self) -> int:
        """Requests under way."""
        return self.total - self._free

    @asynccontextmanager
    async def hold(self, priority: Callable[[], Priority]) -> AsyncIterator[None]:
        """Hold one slot; waits while none is to be had for the priority asked for each time."""
        if self._allowed(priority()) and not self._queue:
            self._free -= 1
        else:
            waiter = (priority, trio.Event())
            self._queue.append(waiter)
            self._hand_out()
            try:
                await waiter[1].wait()
            except trio.Cancelled:
                if waiter in self._queue:
                    self._queue.remove(waiter)
                else:  # the slot came in the same moment as the cancellation: pass it on
                    self._give_back()
                raise
        try:
            yield
        finally:
            self._give_back()

    def resize(self, total: int) -> None:
        """Allow another number of requests from now on; those under way go on."""
        self._free += total - self.total
        self._reserved = min(self._reserved, total // 4)
        self.total = total
        self._hand_out()

    def reconsider(self) -> None:
        """A priority changed."""
        self._hand_out()

    def _allowed(self, priority: Priority) -> bool:
        return self._free > (0 if priority is Priority.DEMAND else self._reserved)

    def _give_back(self) -> None:
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue:
            best = min(self._queue, key=lambda waiter: waiter[0]())
            if not self._allowed(best[0]()):
                return
            self._queue.remove(best)
            self._free -= 1
            best[1].set()
