"""Asking all processes to let go of objects: the one thing they tell each other beside locks.

A process that serves a mount has objects open that nobody reads at the moment: the kernel's backing
files. Whoever needs their room writes a row for each, and a moment later they are let go; whoever finds
one damaged does the same. Nobody answers: that an object is free shows by its lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cache.index import Reader
from cache.writer import Writer

POLL_SECONDS = 0.1
"""How often those who serve look for new rows."""
STALE_SECONDS = 60.0
"""After so long a row has been seen by everybody who is there."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Let go of an object."""

    node: int
    bad: bool
    """Its bytes are wrong: nobody may be given it any more. Else it stays where somebody has it open."""
    asked_at: float
    """Epoch seconds."""


class Recalls:
    """The requests of one cache."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._seen: dict[int, float] = {}
        self._version = -1

    def ask(self, nodes: Sequence[int], *, bad: bool = False) -> None:
        """Ask everybody to let go of the objects of ``nodes``. Blocks."""
        now = time.time()

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM recalls WHERE asked_at < ?", (now - STALE_SECONDS,))
            db.executemany(
                "INSERT INTO recalls VALUES (?, ?, ?) "
                "ON CONFLICT (node) DO UPDATE SET bad = max(bad, excluded.bad), asked_at = excluded.asked_at",
                [(node, int(bad), now) for node in nodes],
            )

        self._writer.submit(work).result()

    def new(self) -> list[Recall]:
        """What was asked for since the last call. Costs next to nothing when the index has not changed."""
        version = self._reader.data_version()
        if version == self._version:
            return []
        self._version = version
        rows = self._reader.all("SELECT node, bad, asked_at FROM recalls")
        fresh = [Recall(node, bad == 1, at) for node, bad, at in rows if self._seen.get(node) != at]
        self._seen = {node: at for node, _, at in rows}
        return fresh
