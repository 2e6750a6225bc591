"""Names and versions of every source: what `Objects` are the bytes of.

Questions are answered on the calling thread, from the index, in well under a millisecond whatever its
size. What an origin said is written by the one writer (:mod:`cache.versions` decides what it means)
and is committed when the call returns, so a node that was seen exists after any crash.

The tree says nothing about freshness: it keeps the times by which its caller judges that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cache import versions
from cache.errors import CacheFull
from cache.index import Reader
from cache.model import Changes, Entry, Node
from cache.versions import COLUMNS, node_of
from cache.writer import Writer

T = TypeVar("T")

_BY_ID = f"SELECT {COLUMNS} FROM nodes WHERE id = ?"  # noqa: S608
_BY_NAME = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND name = ? AND current = 1"  # noqa: S608
_LISTING = (
    f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND entry > ? AND current = 1 ORDER BY entry LIMIT ?"  # noqa: S608
)
_COUNT = "SELECT count(*) FROM nodes WHERE parent = ? AND current = 1"


async def _no_room() -> bool:
    return False


class Tree:
    """The names of every source in one cache. All methods raise `CacheBroken` when the index fails."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self.make_room: Callable[[], Awaitable[bool]] = _no_room
        """Evicts something when the index cannot grow; False: nothing may go."""

    # -- questions ---------------------------------------------------------------------------

    def sources(self) -> list[tuple[str, Node]]:
        """Every source that was ever opened with this cache: canonical URL and root."""
        return [(root.name, root) for root in self.children(0, limit=-1)]

    def node(self, id: int) -> Node | None:  # noqa: A002 - the word of the index
        """The node of an id, current or past."""
        row = self._reader.one(_BY_ID, id)
        return None if row is None else node_of(row)

    def child(self, parent: int, name: str) -> Node | None:
        """The current node of a name."""
        row = self._reader.one(_BY_NAME, parent, name)
        if row is None:
            return None
        if row[4] != name:  # found by the index of names, and then another in the row
            raise self._reader.damaged("names and their index disagree")
        return node_of(row)

    def children(self, folder: int, after: int = 0, limit: int = 1000) -> list[Node]:
        """Current nodes of a folder by their ``entry``, those after ``after``; ``limit`` -1: all of them."""
        return [node_of(row) for row in self._reader.all(_LISTING, folder, after, limit)]

    def listed_since(self, source: int, when: float) -> list[int]:
        """Folders of a source that were listed after ``when`` (epoch seconds), the longest ago first."""
        sql = "SELECT id FROM nodes WHERE source = ? AND listed_at > ? AND current = 1 ORDER BY listed_at"
        return [row[0] for row in self._reader.all(sql, source, when)]

    def count(self, folder: int) -> int:
        """How many names a folder has; the time it takes grows with them (10,000: 0.3 ms)."""
        row = self._reader.one(_COUNT, folder)
        return 0 if row is None else row[0]

    def path(self, id: int) -> str:  # noqa: A002 - the word of the index
        """Path of a node below its source, ``""`` for the root.

        Raises:
            LookupError: there is no such node.
        """
        return self.place(id)[1]

    def place(self, id: int) -> tuple[str, str]:  # noqa: A002 - the word of the index
        """URL of a node's source, and its path below. Raises as `path` does."""
        rows = self._reader.all(versions.PATH, id)
        if rows and rows[0][0] != 0:
            raise self._reader.damaged("a name is in no folder")
        return versions.path_of(rows)

    # -- what an origin said -----------------------------------------------------------------

    async def root(self, url: str) -> Node:
        """The root of a source, made when it is new. ``url`` is canonical and free of secrets."""
        known = self.child(0, url)
        if known is not None:
            return known
        return await self._written(lambda db: versions.put_root(db, url))

    async def put_listing(
        self,
        folder: int,
        entries: Sequence[Entry],
        *,
        validator: str | None,
        at: float,
        tell_added: bool = True,
    ) -> Changes:
        """Replace a whole folder by what a listing says, in one transaction.

        Names whose version is the same keep their node. A folder that was removed or superseded in
        the meantime stays as it is.

        Args:
            folder: id of the folder.
            entries: all its entries; of several of one name the first counts.
            validator: what makes the next listing conditional.
            at: epoch seconds when the listing was asked for.
            tell_added: whether the changes are to say what is new.
        """

        def work(db: sqlite3.Connection) -> Changes:
            return versions.put_listing(db, folder, entries, validator, at, tell_added=tell_added)

        return await self._written(work)

    async def confirm_listing(self, folder: int, at: float) -> None:
        """Note that the origin says a folder's listing has not changed."""
        await self._written(lambda db: versions.confirm_listing(db, folder, at))

    async def put_entry(self, parent: int, entry: Entry, at: float) -> Node:
        """Note what an answer about one name said (stat, or the headers of a GET).

        Returns the node that stands at the name now: the known one, which may have learned, or when it
        is another version, another.

        Raises:
            LookupError: there is no such folder.
        """
        return await self._written(lambda db: versions.put_entry(db, parent, entry, at))

    async def remove(self, node: int) -> None:
        """Note that the origin says a name is gone; with a folder all below it goes."""
        await self._written(lambda db: versions.remove(db, node))

    async def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._writer.run(work)
        except CacheFull:
            if not await self.make_room():
                raise
        return await self._writer.run(work)
