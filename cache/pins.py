"""Pins: files that are kept whatever happens, by the globs that name them.

A pin is a pattern below a source, so that files which appear there later are pinned too. Only the
current version of a name is pinned: what the origin has replaced may go.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from cache.index import Reader
from cache.patterns import Patterns
from cache.tree import Tree
from cache.writer import Writer

_ALL = "SELECT pins.source, nodes.name, pattern, pinned_at FROM pins JOIN nodes ON nodes.id = pins.source"
_NAME = "SELECT source, parent, name FROM nodes WHERE id = ? AND current = 1"
# From the pinned queue to main: the next eviction puts back aside what is pinned still.
_UNPIN = """
    UPDATE objects SET queue = 1, position = used_clock
    WHERE queue = 2 AND (?1 = 0 OR node IN (SELECT id FROM nodes WHERE source = ?1))
"""

FOLDERS_KEPT = 1024
"""Folders whose paths are kept at hand while many files are compared with the pins."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One pattern of one source."""

    source: str
    """URL."""
    pattern: str
    """As `cache.patterns` reads it; ``**``: everything."""
    pinned_at: float
    """Epoch seconds."""


class Pins:
    """The pins of one cache. Questions may be asked by several threads."""

    def __init__(self, tree: Tree, reader: Reader, writer: Writer) -> None:
        self._tree = tree
        self._reader = reader
        self._writer = writer
        self._spared: dict[int, Patterns] = {}
        self._read: tuple[tuple[tuple[int, str], ...], dict[int, Patterns]] = ((), {})

    def all(self) -> list[Pin]:
        """Every pin, by source and pattern."""
        rows = self._reader.all(f"{_ALL} ORDER BY nodes.name, pattern")
        return [Pin(url, pattern, at) for _, url, pattern, at in rows]

    def of(self, source: int) -> Patterns | None:
        """What is pinned of a source; None: nothing."""
        return self._patterns().get(source)

    def is_pinned(self, node: int) -> bool:
        """Whether a file is the current version of a name that is pinned."""
        return self.matcher()(node)

    def matcher(self) -> Callable[[int], bool]:
        """`is_pinned` for many questions in a row: pins and the paths of folders are read once."""
        patterns = self._patterns()
        spared = dict(self._spared)
        folders: dict[int, str] = {}

        def matches(node: int) -> bool:
            row = self._reader.one(_NAME, node)
            if row is None or (row[0] not in patterns and row[0] not in spared):
                return False
            source, parent, name = row
            if parent not in folders:
                if len(folders) >= FOLDERS_KEPT:
                    folders.clear()
                folders[parent] = self._tree.path(parent)
            above = folders[parent]
            path = f"{above}/{name}" if above else name
            return any(some[source].matches(path) for some in (patterns, spared) if source in some)

        return matches if patterns or spared else lambda _: False

    @asynccontextmanager
    async def sparing(self, source: int, patterns: Patterns) -> AsyncIterator[None]:
        """Let what matches count as pinned for this process, until the context ends.

        So that who fetches much at once does not evict the first of it for the last.
        """
        self._spared[source] = patterns
        try:
            yield
        finally:
            del self._spared[source]
            with trio.CancelScope(shield=True):
                await self._writer.run(lambda db: unqueue(db, source))

    async def add(self, source: int, patterns: Sequence[str]) -> None:
        """Pin what matches; a pattern that is there already stays as it is. Raises `BadPattern`."""
        Patterns(patterns)
        rows = [(source, pattern, time.time()) for pattern in patterns]
        await self._writer.run(lambda db: _add(db, rows))

    async def remove(self, source: int, patterns: Sequence[str] | None) -> list[str]:
        """Take pins back, all of a source for None; returns the patterns that were there."""

        def work(db: sqlite3.Connection) -> list[str]:
            sql = "SELECT pattern FROM pins WHERE source = ? ORDER BY pattern"
            there = [pattern for (pattern,) in db.execute(sql, (source,))]
            gone = [pattern for pattern in there if patterns is None or pattern in patterns]
            db.executemany(
                "DELETE FROM pins WHERE source = ? AND pattern = ?", [(source, pattern) for pattern in gone]
            )
            unqueue(db, source)
            return gone

        return await self._writer.run(work)

    def _patterns(self) -> dict[int, Patterns]:
        rows = tuple(self._reader.all("SELECT source, pattern FROM pins ORDER BY source, pattern"))
        if rows != self._read[0]:
            texts: dict[int, list[str]] = {}
            for source, pattern in rows:
                texts.setdefault(source, []).append(pattern)
            self._read = rows, {source: Patterns(some) for source, some in texts.items()}
        return self._read[1]


def unqueue(db: sqlite3.Connection, source: int = 0) -> None:
    """Let eviction look again at what it had put aside as pinned, of one source or (0) of all."""
    db.execute(_UNPIN, (source,))


def _add(db: sqlite3.Connection, rows: Sequence[tuple[int, str, float]]) -> None:
    db.executemany("INSERT OR IGNORE INTO pins VALUES (?, ?, ?)", rows)
