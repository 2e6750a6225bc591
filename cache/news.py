"""What processes tell each other of names that changed, so that each can tell its own kernel.

A kernel keeps the names of a mount for long, and is told when one of them means something else. The change
may have been seen by any process that uses the cache: another mount of the source, `mirror warm`,
`mirror index`, `mirror refresh`. So whoever writes it into the index writes a row about it as well, in the
same transaction, and those who serve look for rows of others now and then.

Only the latest rows are kept. Who was away for longer finds a gap, and has to take everything back.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from cache.index import Reader
from cache.model import Changes, Node

KEPT = 8192
"""Rows."""
ONE_BY_ONE = 512
"""Changes of one folder at once that are told by their names; of more, only that the folder has changed."""


@dataclass(frozen=True, slots=True)
class Items:
    """What others have told since the last call."""

    nodes: tuple[int, ...] = ()
    """Nodes that came to their names, or are gone from them, in the order of the changes."""
    folders: tuple[int, ...] = ()
    """Folders in which any name may have changed."""
    missed: bool = False
    """There was more than is kept: anything may have changed."""

    def __bool__(self) -> bool:
        return bool(self.nodes or self.folders or self.missed)


def of(changes: Changes) -> list[int]:
    """Nodes by which the changes of one folder are told."""
    return [
        *(node.id for node in changes.added),
        *(old.id for old, _ in changes.changed),
        *(node.id for node in changes.removed),
    ]


def tell(db: sqlite3.Connection, author: int, folder: int, nodes: Iterable[int]) -> None:
    """Tell all others that the names of nodes changed, which are in one folder; in a transaction."""
    nodes = iter(nodes)
    some = list(islice(nodes, ONE_BY_ONE + 1))
    if not some:
        return
    rows = [(author, node, 0) for node in some] if len(some) <= ONE_BY_ONE else [(author, folder, 1)]
    db.executemany("INSERT INTO news (author, node, whole) VALUES (?, ?, ?)", rows)
    db.execute("DELETE FROM news WHERE id <= (SELECT max(id) FROM news) - ?", (KEPT,))


class News:
    """The news of one cache, as one process reads and writes them."""

    def __init__(self, reader: Reader) -> None:
        self.author = secrets.randbits(62)
        """Marks what this process writes."""
        self.heard = 0
        """Id of the last row that was read."""
        self._reader = reader
        self._version = -1

    def last(self) -> int:
        """Id of the latest row; 0: there never was one."""
        row = self._reader.one("SELECT seq FROM sqlite_sequence WHERE name = 'news'")
        return 0 if row is None else int(row[0])

    def skip(self) -> None:
        """Take all that is there for heard: nothing was told to a kernel before."""
        self.heard = self.last()

    def rewind(self) -> None:
        """Take nothing for heard: what a predecessor had told its kernel is not known."""
        last = self.last()  # first: what is written between the two questions is new
        row = self._reader.one("SELECT min(id) FROM news")
        self.heard = last if row is None or row[0] is None else int(row[0]) - 1

    def new(self) -> Items:
        """What others told since the last call. Costs next to nothing when the index has not changed."""
        version = self._reader.data_version()
        if version == self._version:
            return Items()
        self._version = version
        rows = self._reader.all(
            "SELECT id, author, node, whole FROM news WHERE id > ? ORDER BY id", self.heard
        )
        if not rows:
            return Items()
        missed = rows[0][0] > self.heard + 1
        self.heard = rows[-1][0]
        others = [row for row in rows if row[1] != self.author]
        return Items(
            nodes=tuple(row[2] for row in others if not row[3]),
            folders=tuple(dict.fromkeys(row[2] for row in others if row[3])),
            missed=missed,
        )


def changed(old: Node | None, new: Node) -> list[int]:
    """Nodes by which it is told that ``new`` stands where ``old`` stood; none when it is the same."""
    if old is None:
        return [new.id]
    return [] if old.id == new.id else [old.id]
