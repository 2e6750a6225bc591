"""Taking objects away: to make room, because they are bad, or because somebody asked for it.

One order for all, under the lease of the object's ``.part`` name, so that nobody else touches its names:

1. the process notes in its claim whose object goes, and makes sure that nobody has it in use (not asked
   of a bad one: whoever reads it keeps what they have);
2. its rows are deleted, durably, and the room that it took is the remover's claim;
3. both names are unlinked;
4. the lease ends. Only now may another file take the name.

A kill in between leaves a file without rows that says what it is, and is taken over. The room is counted
until the bytes are gone, so the cache never takes more than it says. Only where the disk is so full that not
even the rows can be deleted the names go first: that leaves rows without a file, which everybody can tell.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum

from cache import rows, space
from cache.errors import CacheError, CacheFull
from cache.index import Reader
from cache.lease import Lease
from cache.model import Node
from cache.names import Names, Paths, alone, open_read, taken, unlink
from cache.reserve import Reserve
from cache.space import Space
from cache.writer import Writer

BATCH = 256
"""Objects removed in one go: each holds two descriptors meanwhile."""


@dataclass(frozen=True, slots=True)
class Removed:
    """An object that is gone."""

    node: int
    freed: int
    """Bytes of disk that were counted for it."""


class Stays(Enum):
    """Why an object cannot be removed at the moment."""

    FILLED = "being fetched"
    IN_USE = "in use"


class Removal:
    """Removes objects of one cache. Blocks; for threads."""

    def __init__(self, names: Names, reader: Reader, writer: Writer, room: Space, reserve: Reserve) -> None:
        self._names = names
        self._reader = reader
        self._writer = writer
        self._space = room
        self._reserve = reserve
        self.lost: list[int] = []
        """Nodes whose objects a process that died had not made safe: whoever holds one may let it go."""

    def remove(self, nodes: Sequence[Node], *, in_use: bool = False, ghosts: bool = False) -> list[Removed]:
        """Remove objects; those that are being filled or in use stay. Returns those that went.

        Args:
            nodes: whose objects.
            in_use: also remove what is in use: bad bytes, which nobody may be given any more.
            ghosts: remember them, so that eviction knows them when they come back.

        Raises:
            CacheFull, CacheBroken: the rows of some could not be deleted; they are without a file now.
        """
        removed: list[Removed] = []
        before = self._space.free
        for first in range(0, len(nodes), BATCH):
            removed += self._remove_some(nodes[first : first + BATCH], in_use=in_use, ghosts=ghosts)
        if removed:
            self._space.settle(before + sum(each.freed for each in removed))
            self._reserve.fill()
        return removed

    def _remove_some(self, nodes: Sequence[Node], *, in_use: bool, ghosts: bool) -> list[Removed]:
        with ExitStack() as stack:
            # Noted first: also what is freed goes to the claim of this process, which then exists.
            ids = [node.id for node in nodes]
            self._note(ids)
            stack.callback(self._space.forget_note, ids)
            chosen = []
            for node in nodes:
                paths = self._names.of(node.key)
                lease = self._lease(paths)
                if lease is None:
                    continue
                if not in_use and not _nobody_has(paths.final, stack):
                    lease.remove() if lease.size == 0 else lease.release()
                    continue
                stack.callback(lease.release)
                chosen.append((node, paths))
            if not chosen:
                return []
            ids = [node.id for node, _ in chosen]
            try:
                removed = self._forget(ids, ghosts=ghosts)
            except CacheFull:
                for _, paths in chosen:
                    unlink(paths.final)
                removed = self._forget(ids, ghosts=ghosts)
            for _, paths in chosen:
                unlink(paths.final)
                unlink(paths.part)
            return removed

    def why_it_stays(self, node: Node) -> Stays | None:
        """Why `remove` would leave an object; None: it would go."""
        paths = self._names.of(node.key)
        with ExitStack() as stack:
            if taken(paths.part):
                return Stays.FILLED
            return None if _nobody_has(paths.final, stack) else Stays.IN_USE

    def _note(self, nodes: list[int]) -> None:
        try:
            self._space.note(nodes)
        except CacheFull:
            if not self._reserve.spend():
                raise
            self._space.note(nodes)

    def _lease(self, paths: Paths) -> Lease | None:
        try:
            try:
                return Lease.take(paths.part)
            except CacheFull:
                # No room even for an empty name.
                return Lease.take(paths.part) if self._reserve.spend() else None
        except CacheError:
            return None  # or somebody else's file: it stays

    def _forget(self, nodes: Iterable[int], *, ghosts: bool) -> list[Removed]:
        name = self._space.claim_name

        def work(db: sqlite3.Connection) -> list[Removed]:
            gone = []
            for node in nodes:
                row = db.execute(
                    "SELECT occupied, used_clock FROM objects WHERE node = ?", (node,)
                ).fetchone()
                gone.append(Removed(node, 0 if row is None else row[0]))
                rows.delete(db, node)
                if ghosts and row is not None:
                    db.execute("INSERT OR REPLACE INTO ghosts VALUES (?, ?)", (node, row[1]))
            space.credit(db, name, sum(removed.freed for removed in gone))
            return gone

        removed = self._writer.submit(work, durable=True).result()
        self._space.took(sum(each.freed for each in removed))
        return removed

    def settle(self, node: Node) -> None:
        """Make the row of an object what its files are, after a process died that may have changed them."""
        paths = self._names.of(node.key)
        lease = self._lease(paths)
        if lease is None:
            return  # somebody fills it already, and counts it
        try:
            part = lease.size
            final = _stat(paths.final)
            row = rows.get(self._reader, node.id)
            if row is None and final is None:
                unlink(paths.part)  # bytes that no row names
            elif row is not None and final is None and not part:
                with self._space.noted([node.id]):
                    self._forget([node.id], ghosts=False)
                    unlink(paths.part)
            elif row is not None:
                there = final or os.fstat(lease.fd)
                occupied = there.st_blocks * 512 + space.BLOCK
                self._writer.submit(lambda db: self._recount(db, node.id, occupied)).result()
                if not part:
                    unlink(paths.part)
            else:
                if not taken(paths.final):
                    # Complete, and not made safe; who has it open keeps it.
                    unlink(paths.final)
                    self.lost.append(node.id)
                unlink(paths.part)
        finally:
            lease.release()

    def _recount(self, db: sqlite3.Connection, node: int, occupied: int) -> None:
        known = db.execute("SELECT occupied FROM objects WHERE node = ?", (node,)).fetchone()
        if known is not None:
            db.execute("UPDATE objects SET occupied = ? WHERE node = ?", (occupied, node))
            space.pay(db, self._space.payers(node), occupied - known[0])


def _nobody_has(final: str, stack: ExitStack) -> bool:
    """Whether nobody has an object in use; nobody can begin to until the stack is closed."""
    fd = open_read(final)
    if fd is None:
        return True
    stack.callback(os.close, fd)
    return alone(fd)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
