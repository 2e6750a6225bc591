"""How many requests run at once, and who goes first.

A blocked reader comes before read-ahead, read-ahead before warming. A few slots are kept free of
everything but readers, so that a demand never queues behind a window of neighbours. Priorities are
read when a slot becomes free, not when it was asked for: a fill that a reader starts to wait for
moves to the front.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Protocol, Self

import trio


class Priority(IntEnum):
    """Why bytes are fetched; the smaller goes first."""

    DEMAND = 0
    """A reader is blocked."""
    AHEAD = 1
    """A reader will want it soon."""
    WARM = 2
    """Somebody will want it some day."""


class Asks(Protocol):
    """Whoever wants a slot."""

    @property
    def priority(self) -> Priority:
        """It may change while it is waited for: see `Slots.reconsider`."""


class Fixed:
    """Somebody whose priority does not change."""

    __slots__ = ("priority",)

    def __init__(self, priority: Priority) -> None:
        self.priority = priority


class Waiting:
    """Whoever waits for a slot."""

    __slots__ = ("asks", "has_come", "tell")

    def __init__(self, asks: Asks, tell: Callable[[], None]) -> None:
        self.asks = asks
        self.tell = tell
        self.has_come = False


class Slots:
    """A limit on requests under way, with priorities."""

    def __init__(self, total: int, reserved: int) -> None:
        """Allow ``total`` requests at once, ``reserved`` of them for `Priority.DEMAND` only."""
        self.total = total
        self._free = total
        self._reserved = reserved
        self._queue: list[Waiting] = []

    @property
    def held(self) -> int:
        """Requests under way."""
        return self.total - self._free

    def hold(self, asks: Asks, *, taken: bool = False) -> Held:
        """Hold one slot in a context; waits while none is to be had for the priority it has each time.

        ``taken``: one that was taken already.
        """
        return Held(self, asks, taken=taken)

    def take_at_once(self, asks: Asks) -> bool:
        """What `hold` begins with, if it need not wait."""
        if self._queue or not self._allowed(asks.priority):
            return False
        self._free -= 1
        return True

    def wait_for(self, asks: Asks, tell: Callable[[], None]) -> Waiting:
        """Have ``tell`` called when a slot has come, which may be before this returns."""
        waiter = Waiting(asks, tell)
        self._queue.append(waiter)
        self._hand_out()
        return waiter

    def stop_waiting(self, waiter: Waiting) -> None:
        """Never mind; a slot that came in the same moment is passed on."""
        if waiter.has_come:
            self.give_back()
        else:
            self._queue.remove(waiter)

    def give_back(self) -> None:
        """What `hold` ends with."""
        self._free += 1
        self._hand_out()

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

    def _hand_out(self) -> None:
        while self._free > 0 and self._queue:
            best = min(self._queue, key=_priority)
            if not self._allowed(best.asks.priority):
                return
            self._queue.remove(best)
            self._free -= 1
            best.has_come = True
            best.tell()


def _priority(waiter: Waiting) -> Priority:
    return waiter.asks.priority


class Held:
    """The context of `Slots.hold`: a class, for it is entered for every request."""

    __slots__ = ("_asks", "_came", "_slots", "_taken", "_waiting")

    def __init__(self, slots: Slots, asks: Asks, *, taken: bool) -> None:
        self._slots = slots
        self._asks = asks
        self._taken = taken
        self._came: trio.Event | None = None
        self._waiting: Waiting | None = None

    def queue(self) -> Self:
        """Stand in line from now on, not only from when it is entered, which it has to be."""
        self._taken = self._taken or self._slots.take_at_once(self._asks)
        if not self._taken:
            self._came = trio.Event()
            self._waiting = self._slots.wait_for(self._asks, self._came.set)
        return self

    async def __aenter__(self) -> None:
        if self._waiting is None:
            self.queue()
        if self._waiting is not None and self._came is not None:
            try:
                await self._came.wait()
            except trio.Cancelled:
                self._slots.stop_waiting(self._waiting)
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.give_back()
