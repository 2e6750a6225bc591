"""Many entries at once: how pages of an origin's listing become folders of the index that are complete.

A *run* makes the index of a folder and of all below it. It is divided into *units*, folders whose files the
origin lists page by page, however deep they lie; all of that is kept in the table ``scans``, so that a run
that was killed goes on where it was.

Pages may come in any order, and again. Each entry that is seen is stamped: its ``checked_at`` is no earlier
than the beginning of the run. Only when all pages of a unit are written, what has no stamp is removed, and
the folders count as listed (at the beginning of the run, for no later moment is vouched for); until then
they are what they were. A folder that somebody else has listed since the run began is newer than its pages
and is left alone. So is one in which a folder vanished, because a file of that name may be left at the
origin, and everything below a folder that only others have seen. They do not count as listed, which leaves
them to whoever lists folder by folder.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cache import parts, versions
from cache.index import Reader, Row
from cache.model import Changes, Entry, Kind, Node
from cache.parts import Stamp
from cache.tree import Tree

FOLDERS_KEPT = 4096
"""Folders of a unit whose nodes are kept at hand."""


class State(IntEnum):
    """How far a unit is. The values are those of the index."""

    WAITING = 0
    """To be divided, or to be listed folder by folder."""
    PAGES = 1
    """Its pages are being read."""
    SWEEPING = 2
    """All its pages are in the index; what they did not have goes."""
    DIVIDED = 3
    """It has been divided: the rows of its parts are there."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A folder that is to be complete, with all below it."""

    folder: int
    run: int
    began_at: float
    state: State
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a page, or a part of the sweep, did."""

    changes: Sequence[Changes] = ()
    """By folder."""
    new_folders: int = 0
    listed: int = 0
    """Folders that count as listed now."""


class Scans:
    """The runs of one cache. All methods raise `CacheBroken` when the index fails."""

    def __init__(self, reader: Reader, tree: Tree, author: int) -> None:
        """``author`` is that of `cache.news.News`."""
        self._reader = reader
        self._written = tree.written
        self._author = author

    def units(self, run: int) -> list[Unit]:
        """What is left of a run, its own row included; nothing: none is under way."""
        rows = self._reader.all(
            "SELECT folder, run, began_at, state, cursor FROM scans WHERE run = ? ORDER BY folder", run
        )
        return [Unit(folder, run, at, State(state), cursor) for folder, run, at, state, cursor in rows]

    async def begin(self, folder: int, at: float) -> Unit:
        """Begin a run anew, whatever is left of an earlier one."""

        def work(db: sqlite3.Connection) -> Unit:
            db.execute("DELETE FROM scans WHERE run = ? OR folder = ?", (folder, folder))
            db.execute("INSERT INTO scans VALUES (?, ?, ?, ?, NULL)", (folder, folder, at, State.WAITING))
            return Unit(folder, folder, at, State.WAITING, None)

        return await self._written(work)

    async def divide(self, run: Unit, folders: Sequence[int]) -> None:
        """Note the parts of a run; those that another run is about become this one's."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE scans SET state = ? WHERE folder = ?", (State.DIVIDED, run.folder))
            db.executemany(
                "INSERT OR REPLACE INTO scans VALUES (?, ?, ?, ?, NULL)",
                [(each, run.run, run.began_at, State.PAGES) for each in folders],
            )

        await self._written(work)

    async def end(self, unit: Unit) -> None:
        """Forget a unit, or a run, that is complete."""
        await self._written(
            lambda db: db.execute(
                "DELETE FROM scans WHERE folder = ? AND began_at = ?", (unit.folder, unit.began_at)
            )
        )

    async def again(self, unit: Unit) -> Unit:
        """Begin a unit from its first page: its cursor means nothing to the origin any more."""
        await self._written(
            lambda db: db.execute("UPDATE scans SET cursor = NULL WHERE folder = ?", (unit.folder,))
        )
        return replace(unit, cursor=None)

    # -- pages -------------------------------------------------------------------------------

    async def put_page(
        self, page: Pages, files: Sequence[tuple[str, Entry]], cursor: str | None, *, last: bool
    ) -> Written:
        """Write a page, and that it is written; both in one transaction.

        Args:
            page: the unit's.
            files: paths below the unit, and what is there. A folder without files may be one of them.
            cursor: of this page.
            last: no page follows.
        """

        def work(db: sqlite3.Connection) -> Written:
            written = page.put(db, files, time.time(), self._author)
            db.execute(
                "UPDATE scans SET cursor = ?, state = ? WHERE folder = ? AND began_at = ?",
                (cursor, State.SWEEPING if last else State.PAGES, page.unit.folder, page.unit.began_at),
            )
            return written

        written = await self._written(work)
        page.keep()
        return written

    async def sweep(self, unit: Unit, folders: list[int], after: int) -> tuple[Written, int]:
        """Remove what was not seen, and let folders count as listed: a step of it.

        Args:
            unit: all its pages are in the index.
            folders: those still to look at, the next one last; begins with the unit's own, and is changed.
            after: cookie of the last entry that was looked at in the next one; 0 at first.

        Returns:
            What was done, and the next ``after``. It is over when there are no ``folders`` left.
        """

        def work(db: sqlite3.Connection) -> tuple[Written, int, list[int]]:
            return _Sweep(db, self._author, unit.began_at).step(list(folders), after)

        written, after, folders[:] = await self._written(work)
        return written, after


class Pages:
    """The folders of one unit that its pages are written to. Used in the writer's thread, page by page."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._kept: dict[str, _Place] = {}
        """By path, of pages that are committed."""
        self._folders = self._kept
        self._new = 0

    def put(
        self, db: sqlite3.Connection, files: Sequence[tuple[str, Entry]], now: float, author: int
    ) -> Written:
        """Write a page; see `Scans.put_page`."""
        # A transaction may be undone, and tried again: what it made is only known once it is committed.
        self._folders = dict(self._kept)
        step = _Step(db, author, Stamp(self.unit.began_at, now, exact=True))
        by_folder: dict[str, list[Entry]] = {}
        for path, entry in files:
            by_folder.setdefault(path.rpartition("/")[0], []).append(entry)
        for path, entries in by_folder.items():
            place = self._place(step, path)
            # Somebody who has listed it since the run began knows better.
            if place is not None and not step.stamp.fits(place.folder.listed_at):
                self._put(step, place, entries)
        return Written([changes for changes in step.changes if changes], step.new_folders)

    def keep(self) -> None:
        """The last page is committed."""
        self._kept = self._folders

    def _place(self, step: _Step, path: str) -> _Place | None:
        """The folder of a path below the unit, made where it is missing; None: the unit is gone."""
        known = self._folders.get(path)
        if known is not None:
            # It may have been listed since, or be gone.
            folder = versions.node_by_id(step.db, known.folder.id)
            if folder is not None and folder.current:
                return replace(known, folder=folder)
        if len(self._folders) >= FOLDERS_KEPT:
            self._folders.clear()
        if not path:
            folder = versions.node_by_id(step.db, self.unit.folder)
        else:
            above, _, name = path.rpartition("/")
            parent = self._place(step, above)
            if parent is None:
                return None
            self._put(step, parent, [Entry(name, Kind.FOLDER)])
            folder = versions.child(step.db, parent.folder.id, name)
        if folder is None or not folder.current or folder.kind is not Kind.FOLDER:
            return None
        place = _Place(folder, versions.place_of(step.db, folder.id))
        self._folders[path] = place
        return place

    def _put(self, step: _Step, place: _Place, entries: Sequence[Entry]) -> None:
        # A folder that is known stays until the sweep: there may be files in it on a later page.
        changes = parts.put(step.db, place.folder, place.place, entries, step.stamp).changes
        parts.tell(step.db, step.author, place.folder, changes)
        step.changes.append(changes if place.folder.listed_at is not None else replace(changes, added=()))
        step.new_folders += sum(node.kind is Kind.FOLDER for node in changes.added)
        step.new_folders += sum(new.kind is Kind.FOLDER for _, new in changes.changed)


@dataclass(frozen=True, slots=True)
class _Place:
    folder: Node
    place: str


@dataclass(slots=True)
class _Step:
    """One page on its way into the index."""

    db: sqlite3.Connection
    author: int
    stamp: Stamp
    changes: list[Changes] = field(default_factory=list)
    new_folders: int = 0


# -- the sweep -----------------------------------------------------------------------------------

_FOLDERS = "SELECT id, checked_at FROM nodes WHERE parent = ? AND kind = 2 AND current = 1"


class _Sweep:
    """One step of a sweep, in the writer's thread."""

    def __init__(self, db: sqlite3.Connection, author: int, began_at: float) -> None:
        self._db = db
        self._author = author
        self._stamp = Stamp(began_at, time.time())
        self._left = parts.LOOKED_AT
        """Entries that this step may still look at."""
        self._told: list[Changes] = []
        self._listed = 0

    def step(self, folders: list[int], after: int) -> tuple[Written, int, list[int]]:
        while folders and self._left > 0:
            folder = versions.node_by_id(self._db, folders[-1])
            below: Sequence[Row] = self._db.execute(_FOLDERS, (folders[-1],)).fetchall()
            if folder is None or not folder.current:
                below = []
            elif self._may_be_swept(folder, below):
                look = parts.sweep(self._db, folder.id, after, self._left, self._stamp)
                self._left -= look.count + 16 + 16 * len(look.changes.removed)
                if look.changes:
                    self._told.append(look.changes)
                    parts.tell(self._db, self._author, folder, look.changes)
                if not look.over:
                    after = look.after
                    continue
                parts.listed(self._db, folder.id, self._stamp.began_at)
                self._listed += 1
            folders.pop()
            after = 0
            folders += [id_ for id_, checked_at in below if checked_at == self._stamp.began_at]
        return Written(self._told, listed=self._listed), after, folders

    def _may_be_swept(self, folder: Node, below: Sequence[Row]) -> bool:
        if self._stamp.fits(folder.listed_at):
            return False
        return all(self._stamp.fits(checked_at) for _, checked_at in below)
