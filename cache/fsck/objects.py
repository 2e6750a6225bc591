"""Rows and files of objects against each other, both ways. No byte of an object is read.

What a living process fills, seals or removes at the moment is left to it: its locks say so. What looks wrong
for another reason is removed, name and row, in the order of `cache.removal`, and is fetched again by whoever
wants it; so the worst that a mistake here could cost is a fetch.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cache import identity, rows, versions
from cache.errors import CacheBroken, CacheError
from cache.found import Finder, identity_of
from cache.fsck.result import Result
from cache.identity import Identity
from cache.layout import OBJECTS, is_object_folder, key_of, object_folders
from cache.lease import Lease
from cache.model import Entry, Kind, Node, same_version
from cache.names import Names, Paths, open_read, taken, trustworthy, unlink
from cache.objects import Objects
from cache.rebuild import Progress, Report
from cache.rows import Payer, Sealed
from cache.space import BLOCK
from cache.sums import BLOCK as SUMS_BLOCK
from cache.versions import COLUMNS, node_of
from cache.writer import Writer

PAGE = 1000
"""Rows read at a time."""
FOLDERS_KEPT = 10_000

_ROWS = f"""
    SELECT objects.node, inode, objects.size, sealed_at IS NOT NULL, crc, {{}}
    FROM objects JOIN nodes ON nodes.id = objects.node
    WHERE objects.node > ? ORDER BY objects.node LIMIT {PAGE}
""".format(", ".join(f"nodes.{column.strip()}" for column in COLUMNS.split(",")))  # noqa: S608
_EXTENTS = "SELECT start, stop FROM extents WHERE node = ? ORDER BY start"


@dataclass(frozen=True, slots=True)
class Hands:
    """What changes are made with."""

    objects: Objects
    writer: Writer


class _Row(NamedTuple):
    inode: int
    size: int | None
    sealed: bool
    crc: int | None
    node: Node


class ObjectCheck:
    """Checks the objects of one cache."""

    def __init__(
        self, cache: Path, db: sqlite3.Connection, hands: Hands | None, result: Result, report: Report
    ) -> None:
        """``db`` is to read from; without ``hands`` nothing is changed."""
        self._cache = cache
        self._names = Names(cache)
        self._db = db
        self._hands = hands
        self._result = result
        self._report = report
        self._places: dict[int, tuple[str, str]] = {}

    # -- from rows to files ------------------------------------------------------------------

    def check_rows(self) -> None:
        """Every row has its file. Raises `CacheError`, OSError, sqlite3.Error."""
        (total,) = self._db.execute("SELECT count(*) FROM objects").fetchone()
        for number, row in enumerate(self._rows()):
            if number % PAGE == 0:
                self._report(Progress("checking rows", number, total))
            fault = self._fault(row)
            if fault is None:
                self._count(row)
            elif self._confirmed(row):
                self._remove(row, fault)

    def _rows(self) -> Iterator[_Row]:
        last = -1
        while page := self._db.execute(_ROWS, (last,)).fetchall():
            for last, inode, size, sealed, crc, *node in page:  # noqa: B007 - the last one is where to go on
                yield _Row(inode, size, sealed == 1, crc, node_of(tuple(node)))

    def _count(self, row: _Row) -> None:
        if row.sealed:
            self._result.objects += 1
            self._result.bytes += row.size or 0
        else:
            self._result.partial += 1

    def _fault(self, row: _Row) -> str | None:
        paths = self._names.of(row.node.key)
        return self._sealed_fault(row, paths.final) if row.sealed else self._partial_fault(row, paths)

    def _sealed_fault(self, row: _Row, final: str) -> str | None:
        status = _lstat(final)
        if status is None:
            return "is missing"
        if not trustworthy(status):
            return "is not a file of this user alone"
        if status.st_size != row.size:
            return f"has {status.st_size:,} bytes instead of {row.size:,}"
        if row.node.size not in (None, row.size):
            return f"has {row.size:,} bytes, and the file that it is of has {row.node.size:,}"
        seen = identity.read(final)
        if seen is None:
            return self._unidentified(row, final, status)
        if (seen.source, seen.path) != self._place(row.node) or not _agrees(row.node, seen):
            return "says that it is of another file or version"
        if None not in (seen.crc, row.crc) and seen.crc != row.crc:
            return "says another checksum than the index"
        return None

    def _unidentified(self, row: _Row, final: str, status: os.stat_result) -> str | None:
        """The index says that it is sealed: so it may say so itself again, if it is the same file."""
        if status.st_ino != row.inode:
            return "was replaced by another file"
        if self._hands is not None and row.size is not None:
            fd = open_read(final)
            if fd is None:
                return "cannot be opened"
            try:
                if os.fstat(fd).st_ino != row.inode:
                    return None  # replaced in this moment, by somebody who seals it
                place, validator = self._place(row.node), row.node.validator
                what = Identity.of(row.node, place, row.size, validator=validator, crc=row.crc)
                if identity.write(fd, what):
                    self._add("object", row.node, "does not say what it is", "it says so again")
            finally:
                os.close(fd)
        return None

    def _partial_fault(self, row: _Row, paths: Paths) -> str | None:
        status = _lstat(paths.part)
        if status is None:
            complete = _lstat(paths.final) is not None
            return "is complete, and was never made safe" if complete else "is missing"
        if not trustworthy(status):
            return "is not a file of this user alone"
        if status.st_ino != row.inode:
            return "is another file than the one that was noted"
        at = 0
        for start, stop in self._db.execute(_EXTENTS, (row.node.id,)):
            if start < at or stop <= start or start // SUMS_BLOCK != (stop - 1) // SUMS_BLOCK:
                return "has extents that overlap"
            at = stop
        if at > status.st_size or (row.size is not None and at > row.size):
            return "is shorter than what was noted of it"
        return None

    def _confirmed(self, row: _Row) -> bool:
        """Whether a row is still what it was, and nobody is at its object."""
        now = self._db.execute(
            "SELECT inode, size, sealed_at IS NOT NULL FROM objects WHERE node = ?", (row.node.id,)
        ).fetchone()
        if now != (row.inode, row.size, int(row.sealed)):
            return False
        paths = self._names.of(row.node.key)
        return not (taken(paths.part) or (not row.sealed and taken(paths.final)))

    def _remove(self, row: _Row, fault: str) -> None:
        kind = "object" if row.sealed else "partial object"
        if self._hands is None:
            self._add(kind, row.node, fault, "fetched again when it is wanted")
            return
        paths = self._names.of(row.node.key)
        try:
            if not row.sealed and (fd := self._hands.objects.open_complete(row.node)) is not None:
                os.close(fd)  # it says itself that it is safe, and has been taken over
                self._add(kind, row.node, fault, "it says what it is, and is complete now")
                self._result.objects += 1
                self._result.bytes += row.node.size or 0
                return
            _clear_the_way(paths.part)
            removed = self._hands.objects.removal.remove([row.node], in_use=True)
        except CacheError as exc:
            self._add(kind, row.node, fault, f"it cannot be removed: {exc}", fixed=False)
            return
        done = "removed, fetched again when it is wanted" if removed else "it cannot be removed"
        self._add(kind, row.node, fault, done, fixed=bool(removed))

    # -- from files to rows ------------------------------------------------------------------

    def check_files(self) -> None:
        """Every file has its row. Raises as `check_rows` does."""
        self._db.execute("CREATE TEMP TABLE known (object BLOB PRIMARY KEY, sealed INTEGER) WITHOUT ROWID")
        self._db.execute(
            "INSERT OR IGNORE INTO known SELECT object, sealed_at IS NOT NULL "
            "FROM objects JOIN nodes ON nodes.id = objects.node WHERE object IS NOT NULL ORDER BY object"
        )
        self._look_for_others()
        folders = object_folders(self._cache)
        for number, folder in enumerate(folders):
            self._report(Progress("checking files", number, len(folders)))
            known = self._known(folder.name)
            with os.scandir(folder.path) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                key = key_of(folder.name, name)
                path = f"{folder.path}/{name}"
                if key is None:
                    self._result.left_alone.append(path)
                elif name.endswith(".part"):
                    # A kill may leave an empty one beside what is complete.
                    if known.get(key, True):
                        self._leftover(path)
                elif key not in known:
                    self._foundling(path, key)

    def _look_for_others(self) -> None:
        with os.scandir(self._cache / OBJECTS) as entries:
            self._result.left_alone += sorted(entry.path for entry in entries if not is_object_folder(entry))

    def _known(self, folder: str) -> dict[bytes, bool]:
        """The objects of one folder that have rows, and whether they are sealed."""
        first = bytes.fromhex(folder)
        sql = "SELECT object, sealed FROM known WHERE object >= ? AND object < ?"
        after = bytes([first[0] + 1]) if first[0] < 255 else b"\xff" * 21
        return {key: sealed == 1 for key, sealed in self._db.execute(sql, (first, after))}

    def _leftover(self, part: str) -> None:
        if taken(part):
            return
        self._removed_file(part, "belongs to no object", lambda: None)

    def _foundling(self, final: str, key: bytes) -> None:
        """A complete object without a row: it is given one, if it says what it is."""
        status = _lstat(final)
        if status is None or taken(final):
            return
        seen = identity_of(final, status)
        if seen is None:
            self._removed_file(f"{final}.part", "does not say what it is", lambda: unlink(final), final)
            return
        if self._hands is not None:
            found = Sealed(0, status.st_ino, seen.size, status.st_blocks * 512 + BLOCK, None, seen.crc)
            if not self._hands.writer.submit(lambda db: _adopted(db, seen, key, found, status)).result():
                return  # somebody else has just sealed it
        self._result.objects += 1
        self._result.bytes += seen.size
        self._result.add(
            "file", f"{final} is not in the index", f"it says that it is {seen.path}: taken over"
        )

    def _removed_file(
        self, part: str, fault: str, unlink_final: Callable[[], None], path: str | None = None
    ) -> None:
        """Remove files that no row is about, under their lease."""
        what = f"{path or part} {fault}"
        if self._hands is None:
            self._result.add("file", what, "removed")
            return
        try:
            _clear_the_way(part)
            lease = Lease.take(part)
            if lease is None:
                return
            try:
                unlink_final()
            finally:
                lease.remove()
        except CacheError as exc:
            self._result.add("file", what, f"it cannot be removed: {exc}", fixed=False)
        else:
            self._result.add("file", what, "removed")

    # -- other -------------------------------------------------------------------------------

    def _place(self, node: Node) -> tuple[str, str]:
        folder = self._places.get(node.parent)
        if folder is None:
            try:
                folder = versions.path_of(self._db.execute(versions.PATH, (node.parent,)).fetchall())
            except LookupError as exc:
                raise CacheBroken(f"node {node.id} of the index is in no folder") from exc
            if len(self._places) >= FOLDERS_KEPT:
                self._places.clear()
            self._places[node.parent] = folder
        source, path = folder
        return source, f"{path}/{node.name}" if path else node.name

    def _add(self, kind: str, node: Node, fault: str, done: str, *, fixed: bool = True) -> None:
        source, path = self._place(node)
        self._result.add(kind, f"the {kind} of {path} ({source}) {fault}", done, fixed=fixed)


def _adopted(
    db: sqlite3.Connection, seen: Identity, key: bytes, found: Sealed, status: os.stat_result
) -> bool:
    finder = Finder(db, versions.free_id(db))
    node = finder.node_of(seen, key, status.st_ctime)
    if db.execute("SELECT 1 FROM objects WHERE node = ? AND sealed_at IS NOT NULL", (node,)).fetchone():
        return False
    sealed = Sealed(node, found.inode, found.size, found.occupied, crc=found.crc, digest=seen.digest)
    rows.put_sealed(db, [sealed], Payer())
    return True


def _agrees(node: Node, seen: Identity) -> bool:
    """Whether nothing that an object says contradicts the version that it should be."""
    entry = Entry(node.name, Kind.FILE, seen.size, seen.mtime_ns, seen.mtime_resolution_ns, seen.validator)
    return same_version(node, entry)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _clear_the_way(part: str) -> None:
    """Remove what stands at the name of a lease and can be none. Raises `CacheBroken`."""
    status = _lstat(part)
    if status is not None and not trustworthy(status):
        unlink(part)
