"""Names and versions of every source: what `Objects` are the bytes of.

Questions are answered on the calling thread, from the index, in well under a millisecond whatever its
size. What an origin said is written by the one writer (:mod:`cache.versions` decides what it means)
and is committed when the call returns, so a node that was seen exists after any crash.

The tree says nothing about freshness: it keeps the times by which its caller judges that.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from cache import news, parts, versions
from cache.errors import CacheFull
from cache.index import Reader
from cache.model import Changes, Entry, Kind, Node
from cache.parts import Look, Part, Stamp
from cache.versions import COLUMNS, node_of
from cache.writer import Writer

T = TypeVar("T")

_BY_ID = f"SELECT {COLUMNS} FROM nodes WHERE id = ?"  # noqa: S608
_BY_NAME = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND name = ? AND current = 1"  # noqa: S608
_LISTING = (
    f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND entry > ? AND current = 1 ORDER BY entry LIMIT ?"  # noqa: S608
)
_FOLDERS = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND kind = 2 AND current = 1"  # noqa: S608
_ASKED_ABOUT = f"""
    SELECT {COLUMNS} FROM nodes
    WHERE parent = ? AND current = 1 AND kind = 1 AND listed_size = 0 AND checked_at IS NOT NULL
"""  # noqa: S608
_PAST_NAMES = (
    "SELECT DISTINCT name FROM nodes WHERE parent = ? AND name > ? AND current = 0 ORDER BY name LIMIT ?"
)
_LAST = "SELECT max(entry) FROM nodes WHERE parent = ? AND current = 1"
_COUNT = "SELECT count(*) FROM nodes WHERE parent = ? AND current = 1"


async def _no_room() -> bool:
    return False


class Tree:
    """The names of every source in one cache. All methods raise `CacheBroken` when the index fails."""

    def __init__(self, reader: Reader, writer: Writer, author: int = 0) -> None:
        """``author`` marks what this process tells others (`cache.news`)."""
        self._reader = reader
        self._writer = writer
        self._author = author
        self.make_room: Callable[[], Awaitable[bool]] = _no_room
        """Evicts something when the index cannot grow; False: nothing may go."""

    # -- questions ---------------------------------------------------------------------------

    def sources(self) -> list[tuple[str, Node]]:
        """Every source that was ever opened with this cache: canonical URL and root."""
        return [(root.name, root) for root in self.children(0, limit=-1)]

    def node(self, id: int) -> Node | None:  # noqa: A002 - the word of the index
        """The node of an id, current or past."""
        found = self._reader.made(node_of, _BY_ID, id)
        return found[0] if found else None

    def child(self, parent: int, name: str) -> Node | None:
        """The current node of a name."""
        found = self._reader.made(node_of, _BY_NAME, parent, name)
        if not found:
            return None
        if found[0].name != name:  # found by the index of names, and then another in the row
            raise self._reader.damaged("names and their index disagree")
        return found[0]

    def children(self, folder: int, after: int = 0, limit: int = 1000) -> list[Node]:
        """Current nodes of a folder by their ``entry``, those after ``after``; ``limit`` -1: all of them."""
        return self._reader.made(node_of, _LISTING, folder, after, limit)

    def folders(self, folder: int) -> list[Node]:
        """The folders in a folder, however many files are beside them."""
        return self._reader.made(node_of, _FOLDERS, folder)

    def asked_about(self, folder: int) -> list[Node]:
        """Files of a folder that its listing does not vouch for, and that were asked about by themselves."""
        return self._reader.made(node_of, _ASKED_ABOUT, folder)

    def past_names(self, folder: int, after: str = "", limit: int = 1000) -> list[str]:
        """Names in a folder at which something else stood before; in order, those after ``after``."""
        return [row[0] for row in self._reader.all(_PAST_NAMES, folder, after, limit)]

    def all_seen_since(self, folder: int, when: float) -> bool:
        """Whether a folder has no entry, and never had one, but those seen since then (epoch seconds).

        Then a listing that began then neither replaces nor removes any of them, and further ones have higher
        ``entry`` numbers: they may be used while it goes on.
        """
        return parts.all_seen_since(self._reader, folder, when)

    def listed_since(self, source: int, when: float) -> list[int]:
        """Folders of a source that were listed after ``when`` (epoch seconds), the longest ago first."""
        sql = "SELECT id FROM nodes WHERE source = ? AND listed_at > ? AND current = 1 ORDER BY listed_at"
        return [row[0] for row in self._reader.all(sql, source, when)]

    def count(self, folder: int) -> int:
        """How many names a folder has; the time it takes grows with them (10,000: 0.3 ms)."""
        row = self._reader.one(_COUNT, folder)
        return 0 if row is None else row[0]

    def last_entry(self, folder: int) -> int:
        """The highest ``entry`` of a folder; 0: it has none."""
        row = self._reader.one(_LAST, folder)
        return 0 if row is None else row[0] or 0

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
        return await self.written(lambda db: versions.put_root(db, url))

    async def put_listing(
        self,
        folder: int,
        entries: Sequence[Entry],
        *,
        validator: str | None,
        at: float,
    ) -> Changes:
        """Replace a whole folder by what a listing says, in one transaction.

        Names whose version is the same keep their node. A folder that was removed or superseded in
        the meantime stays as it is.

        Args:
            folder: id of the folder.
            entries: all its entries; of several of one name the first counts.
            validator: what makes the next listing conditional.
            at: epoch seconds when the listing was asked for.
        """

        def work(db: sqlite3.Connection) -> Changes:
            known = versions.node_by_id(db, folder)
            changes = versions.put_listing(db, folder, entries, validator, at)
            # No absence was told of a folder that was never listed, but names may have been.
            was_listed = known is not None and known.listed_at is not None
            told = changes if was_listed else replace(changes, added=())
            news.tell(db, self._author, folder, news.of(told))
            return changes

        return await self.written(work)

    async def put_part(self, folder: int, entries: Sequence[Entry], at: float) -> Part:
        """Write some of the entries of a folder whose listing is being read (`cache.parts`).

        Args:
            folder: id of the folder; one that is gone stays as it is.
            entries: some of its entries.
            at: epoch seconds when the listing was asked for; the same for all parts.
        """

        def work(db: sqlite3.Connection) -> Part:
            known = versions.node_by_id(db, folder)
            if known is None or not known.current or known.kind is not Kind.FOLDER:
                return Part(Changes())
            stamp = Stamp(at, time.time())
            part = parts.put(db, known, versions.place_of(db, folder), entries, stamp)
            parts.tell(db, self._author, known, part.changes)
            return part

        return await self.written(work)

    async def sweep_parts(self, folder: int, after: int, at: float) -> Look:
        """When all parts are written: remove some of what they did not have, from a cookie on; 0 at first."""

        def work(db: sqlite3.Connection) -> Look:
            known = versions.node_by_id(db, folder)
            if known is None or not known.current or known.kind is not Kind.FOLDER:
                return Look(after, True, 0, Changes())
            look = parts.sweep(db, folder, after, parts.LOOKED_AT, Stamp(at, time.time()))
            parts.tell(db, self._author, known, look.changes)
            return look

        return await self.written(work)

    async def end_parts(self, folder: int, at: float, validator: str | None = None) -> None:
        """When all of that is done: the folder counts as listed; ``validator`` is as for `put_listing`."""
        await self.written(lambda db: parts.listed(db, folder, at, validator))

    async def confirm_listing(self, folder: int, at: float) -> None:
        """Note that the origin says a folder's listing has not changed."""
        await self.written(lambda db: versions.confirm_listing(db, folder, at))

    async def put_entry(self, parent: int, entry: Entry, at: float) -> Node:
        """Note what an answer about one name said (stat, or the headers of a GET).

        Returns the node that stands at the name now: the known one, which may have learned, or when it
        is another version, another.

        Raises:
            LookupError: there is no such folder.
        """

        def work(db: sqlite3.Connection) -> Node:
            old = versions.child(db, parent, entry.name)
            node = versions.put_entry(db, parent, entry, at)
            news.tell(db, self._author, parent, news.changed(old, node))
            return node

        return await self.written(work)

    async def remove(self, node: int) -> None:
        """Note that the origin says a name is gone; with a folder all below it goes."""

        def work(db: sqlite3.Connection) -> None:
            known = versions.node_by_id(db, node)
            versions.remove(db, node)
            if known is not None and known.current:
                news.tell(db, self._author, known.parent, [node])

        await self.written(work)

    async def written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in the writer's thread; where the index cannot grow, evict something and try again."""
        try:
            return await self._writer.run(work)
        except CacheFull:
            if not await self.make_room():
                raise
        return await self._writer.run(work)
