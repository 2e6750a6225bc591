"""What a host that has too much to do is spared: the herd that comes back all at once.

An answer 429 or 503 closes the host's gate, for as long as its ``Retry-After`` says or for a moment that
doubles. What is to be sent to the host meanwhile waits before the gate. When it opens, one request goes
through as a probe; when the host answers it, two at once may, then four, until nobody counts any more.

Every request that is refused by itself would come back by itself otherwise, however well each of them
waits: the host names one moment to all of them.
"""

from __future__ import annotations

import random

import trio

from mirror.errors import Transient

REFUSALS = (429, 503)
"""Statuses by which a host says that there is too much for it."""

FIRST = 0.1
LONGEST = 2.0
"""Seconds for which a refusal without Retry-After closes a gate: the first one, and one of many in a row. It
may be one path alone that fails, and all others wait for it."""
MOST = 120.0
"""Seconds after which any gate lets a probe through, whatever the host asked for: an hour that one answer
names would be an hour without all files."""
WIDE = 32
"""So many at once are no recovery any more."""

_JITTER = random.SystemRandom()


class Gate:
    """The gate of one host. A host without one is open."""

    def __init__(self, patience: float) -> None:
        """Close it by `refused`; a request waits ``patience`` seconds before it at most."""
        self._patience = patience
        self._opens_at = -1.0
        self._refusals = 0
        self._allowed = 1
        self._inside = 0
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def open(self) -> bool:
        """Whether the host has recovered: the gate is of no use any more."""
        return self._allowed >= WIDE

    def refused(self, retry_after: float | None) -> None:
        """Note that the host has too much to do."""
        now = trio.current_time()
        if now >= self._opens_at:  # of a herd that was sent before the first one counts
            self._refusals += 1
        if retry_after is None:
            pause = min(LONGEST, FIRST * 2.0 ** (self._refusals - 1)) * _JITTER.uniform(0.5, 1.0)
        else:
            pause = min(MOST, retry_after)
        self._opens_at = max(self._opens_at, now + pause)
        self._allowed = 1

    def passed(self) -> None:
        """Note that the host answered a request that was let through."""
        self._refusals = 0
        self._allowed += 1  # for each that was let through: twice as many the next time

    async def enter(self, where: object) -> None:
        """Wait for a turn; `leave` has to follow.

        Raises:
            Transient: it will not come in time; with the seconds that are left.
        """
        ends = trio.current_time() + self._patience
        while not self.open:
            now = trio.current_time()
            if (left := self._opens_at - now) > 0:
                if self._opens_at > ends:
                    raise Transient(f"{where}: the server asked to be left alone for {left:.0f} s", left)
                await trio.sleep(left)
            elif self._inside < self._allowed:
                break
            else:
                with trio.CancelScope(deadline=ends) as waited:
                    await self._waiting.park()
                if waited.cancelled_caught:
                    raise Transient(f"{where}: the server has too much to do")
        self._inside += 1

    def leave(self) -> None:
        """Let others have the turn."""
        self._inside -= 1
        self._waiting.unpark(count=WIDE if self.open else max(0, self._allowed - self._inside))
