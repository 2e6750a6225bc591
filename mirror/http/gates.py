"""One gate for each server: when it asks for patience, everybody who goes there hears of it, not only one.

A server that answers 429 or 503 is overloaded, and sixteen connections that each wait and come back at
the same moment do not help it. The first such answer closes the gate: for as long as the server asked
(Retry-After), else for a pause that doubles each time. Whoever comes to a closed gate is told at once, as if
the server had answered, and when to come again (`Transient.retry_after`). After the pause one request goes
first; the others wait for its answer, and all go when it is no refusal.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from mirror.errors import Transient
from mirror.http.answers import retry_after
from mirror.http.connection import Origin

REFUSALS = (429, 503)
FIRST = 0.1
LONGEST = 10.0
"""Seconds that a gate stays closed when the server names no time: at first, and at most."""
MOST = 300.0
"""Seconds that a gate stays closed at a server's wish: then one request asks whether it means it."""
SERVERS = 256
"""Gates that are remembered."""


class Gate:
    """Of one server."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._refusals = 0
        self._until = 0.0
        self._why = ""
        self._first: trio.Event | None = None  # set once whoever goes first has an answer

    @property
    def open(self) -> bool:
        """Nobody was refused since the last request that was not."""
        return not self._refusals

    async def enter(self, where: object) -> bool:
        """Wait for a turn.

        Returns:
            Whether this request goes first, so that the others wait for it: then it has to report by
            `passed`, `refused` or, without an answer, `left`. Of the others only a refusal counts, and
            only while the gate is open: what was asked before it closed says nothing about now.

        Raises:
            Transient: not now; it says when.
        """
        while self._refusals:
            left = self._until - self._clock()
            if left > 0:
                raise Transient(f"{where}: the server asks everybody to wait ({self._why})", left)
            if self._first is None:
                self._first = trio.Event()
                return True
            await self._first.wait()
        return False

    def passed(self) -> None:
        """The one that went first was answered, and not with a refusal."""
        self._refusals = 0
        self._wake()

    def refused(self, status: int, wish: str | None, *, first: bool) -> None:
        """Note a refusal, with the value of its Retry-After header; ``first``: of the one that went first."""
        if self._refusals and not first:
            return  # asked before the gate closed: it knows already
        self._refusals += 1
        wished = retry_after(wish)
        pause = min(LONGEST, FIRST * 2.0 ** (self._refusals - 1)) if wished is None else min(MOST, wished)
        self._until = self._clock() + pause
        self._why = f"{status}, {pause:.1f} s"
        self._wake()

    def left(self) -> None:
        """No answer came for the one that went first: somebody else does."""
        self._wake()

    def _wake(self) -> None:
        if self._first is not None:
            self._first.set()
            self._first = None


class Gates:
    """Of all servers that a client talks to."""

    def __init__(self) -> None:
        self._gates: dict[Origin, Gate] = {}

    def of(self, origin: Origin) -> Gate:
        """The gate of one server."""
        gate = self._gates.get(origin)
        if gate is None:
            if len(self._gates) >= SERVERS:
                self._gates = {known: shut for known, shut in self._gates.items() if not shut.open}
            gate = self._gates[origin] = Gate()
        return gate
