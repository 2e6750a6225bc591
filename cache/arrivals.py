"""Where objects begin that the index hears of for the first time: all that is asked for it, once for many.

Everything here runs in the writer's thread, within one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cache import bulk, policy
from cache.model import Arrival
from cache.policy import Queue

PINNED = 2
"""The queue beside those of the policy: what is pinned, and not looked at."""

_GHOSTS = "SELECT node, clock FROM ghosts WHERE node IN (SELECT value FROM json_each(?))"
_RETURNED = "DELETE FROM ghosts WHERE node IN (SELECT value FROM json_each(?))"
_OLDEST = "SELECT used_clock FROM objects WHERE queue = ? ORDER BY position, node LIMIT 1"


class Arrivals:
    """What `policy.place` goes by, as it is after each that has arrived. `note` comes last."""

    def __init__(self, db: sqlite3.Connection, nodes: Sequence[int], capacity: int) -> None:
        """Ask.

        Args:
            db: the connection.
            nodes: those that arrive.
            capacity: bytes that all objects may take.
        """
        self._db = db
        (self._clock,) = db.execute("SELECT clock FROM space").fetchone()
        self._began_at = self._clock
        self._ghosts: dict[int, int] = dict(db.execute(_GHOSTS, (bulk.array(nodes),)).fetchall())
        self._returned: list[int] = []
        bytes_ = dict(db.execute("SELECT queue, bytes FROM queues").fetchall())
        self._main_bytes: int = bytes_[Queue.MAIN]
        self._budget = capacity - bytes_[PINNED]
        oldest = db.execute(_OLDEST, (Queue.MAIN.value,)).fetchone()
        self._next_main_used: int | None = None if oldest is None else oldest[0]

    def add(self, node: int, size: int | None, occupied: int, arrival: Arrival) -> tuple[int, int]:
        """The queue of an object, and the clock at its arrival."""
        ghost = self._ghosts.pop(node, None)
        if ghost is not None:
            self._returned.append(node)
        queue = policy.place(
            ghost=ghost,
            occupied=occupied,
            main_bytes=self._main_bytes,
            budget=self._budget,
            clock=self._clock,
            next_main_used=self._next_main_used,
            wanted=arrival.wanted,
        )
        if arrival.opened:
            self._clock += size or 0
        if queue is Queue.MAIN and self._next_main_used is None:  # else it stays: the clock only goes on
            self._next_main_used = self._clock
        self.grows(queue.value, occupied)
        return queue.value, self._clock

    def grows(self, queue: int, change: int) -> None:
        """An object of a queue takes so many bytes more."""
        if queue == Queue.MAIN.value:
            self._main_bytes += change
        elif queue == PINNED:
            self._budget -= change

    def note(self) -> None:
        """Write down what their arrival changes."""
        if self._clock != self._began_at:
            self._db.execute("UPDATE space SET clock = ?", (self._clock,))
        self._db.execute(_RETURNED, (bulk.array(self._returned),))
