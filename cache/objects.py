"""The bytes of versions: what is here, and who may fetch the rest.

Whether an object is complete is decided in one place, `Objects._judge`, from what can be true of a
file with a final name:

- the index says it is sealed, or this process completed it and is sealing it: it is;
- its identity attribute says so: it is, and the index lost its row, which is written again;
- a living process holds its lease: that one completed it and is sealing it, so all bytes are there;
- none of that: a process died between giving it its name and making it safe. After a power cut its
  bytes may be wrong, so it is removed by the next one who fills it, and never written in place: the
  kernel may still serve from it.

Every descriptor that is given out of a complete object says by a lock that the object is in use, for as
long as any copy of it is open anywhere; so nobody removes it to make room (:mod:`cache.removal`).

Nothing here scans the objects, and nothing waits for the writer but rare repairs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar, TypeVarTuple

import trio

from cache import _files, errors, identity, rows
from cache.digests import Digest
from cache.durability import Durability
from cache.errors import CacheError, CacheFull
from cache.eviction import Eviction
from cache.extents import Extents
from cache.file_thread import Job, all_done, done
from cache.filler import Filler
from cache.held import Held, HeldState
from cache.index import Reader
from cache.lease import Lease, Taken
from cache.model import Node
from cache.names import Names, Paths, open_read, open_write, share, taken, trustworthy, unlink
from cache.news import News
from cache.partials import Partials
from cache.pins import Pins
from cache.recalls import Recalls
from cache.removal import Removal
from cache.reserve import Reserve
from cache.rows import ObjectRow, Payer, Sealed
from cache.space import BLOCK, Space, min_total
from cache.sums import Sums
from cache.tree import Tree
from cache.writer import Writer, result_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

INDEX_ROOM = 1024 * 1024
"""Bytes to evict when the index has no room to grow."""

_HERE = (HeldState.FILLING, HeldState.CLOSED)


@dataclass(frozen=True, slots=True)
class ObjectState:
    """How much of a version is here."""

    complete: bool
    extents: Extents
    """What can be served: of an object filled by this process what is written, of any other what the
    index says is safely on disk."""


class _Verdict(Enum):
    """What a file with a final name is."""

    GOOD = auto()
    """A complete object of the version."""
    LEFT = auto()
    """Left by a process that died before it was safe."""
    BAD = auto()
    """Not what was once there: truncated, replaced, or somebody else's."""
    LEAVING = auto()
    """Somebody removes it at this moment."""


class _StaleError(Exception):
    """What the lease was taken of is of no use, and removed."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What `Objects` works with, made by `Cache.open`."""

    names: Names
    tree: Tree
    reader: Reader
    """For the event loop."""
    behind: Reader
    """For threads."""
    tree_behind: Tree
    """The same with ``behind``."""
    writer: Writer
    space: Space
    recalls: Recalls
    news: News
    pins: Pins
    reserve: Reserve


class Objects:
    """The objects of every source in one cache. May be used by several threads."""

    def __init__(self, hands: Hands) -> None:
        self._names = hands.names
        self._tree = hands.tree
        self._tree_behind = hands.tree_behind
        self._reader = hands.reader
        self._writer = hands.writer
        self._space = hands.space
        self._lock = threading.Lock()
        self._held: dict[bytes, Held] = {}  # by key, guarded by _lock
        self.partials = Partials(hands.names, hands.reader, self._held)
        self.removal = Removal(hands.names, hands.behind, hands.writer, hands.space, hands.reserve)
        self.eviction = Eviction(
            hands.space,
            self.removal,
            hands.recalls,
            hands.pins,
            hands.tree_behind,
            hands.behind,
            hands.writer,
            self.settle_the_dead,
            self.sync,
        )
        hands.tree.make_room = self.make_room
        self._durability = Durability(
            hands.names.folder, hands.tree_behind, hands.writer, hands.space, self._released
        )

    # -- what is here ------------------------------------------------------------------------

    def state(self, node: Node) -> ObjectState:
        """How much of a version is here. Raises `CacheBroken` when the index fails."""
        held = self._held.get(node.key)
        if held is not None and held.state in _HERE:
            return ObjectState(False, held.present.copy())
        if held is not None and held.state is HeldState.COMPLETE:
            return _complete(held.size or 0)
        row = rows.get(self._reader, node.id)
        if row is not None and row.sealed:
            return _complete(row.size or 0)
        if row is None and not os.path.lexists(self._names.of(node.key).final):
            return ObjectState(False, Extents())  # of most files that are fetched: one look into the index
        fd, _ = self.examine(node, given_out=False)
        if fd is not None:
            size = os.fstat(fd).st_size
            os.close(fd)
            return _complete(size)
        return ObjectState(False, Extents() if row is None else self.partials.extents(node, row))

    def digests(self, node: Node) -> list[Digest]:
        """Digests that are known of all bytes of a version that is complete and safe on disk."""
        return [Digest.parse(text) for text in rows.digests(self._reader, node.id)]

    def sealing(self, node: Node) -> bool:
        """Whether this process has completed an object that the index does not know as complete yet."""
        held = self._held.get(node.key)
        return held is not None and held.state is HeldState.COMPLETE

    def complete_of(self, nodes: Sequence[int]) -> dict[int, int]:
        """Those of many nodes of which the index says that they are complete and safe on disk: id → bytes."""
        return rows.sealed_of(self._reader, nodes)

    def open_complete(self, node: Node) -> int | None:
        """Open a complete object for reading: a descriptor that the caller owns, checked; else None.

        An object that is not what it should be is dropped, and fetched again by whoever wants it.

        Raises:
            CacheBroken: the index fails, or this process has no descriptors left.
        """
        return self.examine(node)[0]

    def examine(self, node: Node, *, given_out: bool = True) -> tuple[int | None, bool]:
        """`open_complete`, and whether there was a complete object that was bad, and was dropped.

        A descriptor that is not to be given out need not say that the object is in use.
        """
        paths = self._names.of(node.key)
        fd = open_read(paths.final)
        row = rows.get(self._reader, node.id)
        if fd is None and row is not None and row.sealed:
            # It has its name before its row says so: it may have come between the two looks.
            fd = open_read(paths.final)
        if fd is None:
            lost = row is not None and row.sealed and self.held(node) is None
            return None, lost and self._drop_bad(node, paths, row)
        shared = share(fd)
        verdict = self._judge(fd, node, row, shared=shared)
        if verdict is _Verdict.GOOD:
            if given_out and not shared:
                self._share_later(node, fd)
            return fd, False
        os.close(fd)
        return None, verdict is _Verdict.BAD and self._drop_bad(node, paths, row)

    def _share_later(self, node: Node, fd: int) -> None:
        """Whoever seals an object has its lock: the descriptor gets its share when that ends."""
        copy = os.dup(fd)
        held = self._held.get(node.key)
        if held is not None:
            with held.lock:
                if held.state is HeldState.COMPLETE:
                    held.given_out.append(copy)
                    return
        self._durability.lock_later(copy)

    def cached(self, source: int, after: int, limit: int) -> list[Node]:
        """Nodes of a source that have an object, whole or not, by id, those after ``after``."""
        sql = (
            "SELECT node FROM objects JOIN nodes ON nodes.id = node WHERE nodes.source = ? AND node > ? "
            "ORDER BY node LIMIT ?"
        )
        nodes = (self._tree.node(row[0]) for row in self._reader.all(sql, source, after, limit))
        return [node for node in nodes if node is not None]

    def count(self, source: int) -> tuple[int, int]:
        """How many objects a source has, and their bytes; adds them up, which takes its time."""
        sql = (
            "SELECT count(*), coalesce(sum(objects.size), 0) FROM objects JOIN nodes ON nodes.id = node "
            "WHERE nodes.source = ?"
        )
        row = self._reader.one(sql, source)
        return (0, 0) if row is None else (row[0], row[1])

    def filled_by_another(self, node: Node) -> bool:
        """Whether another process fills an object at this moment; one look at a lock."""
        return self._held.get(node.key) is None and taken(self._names.of(node.key).part)

    # -- filling -----------------------------------------------------------------------------

    def fill(self, node: Node) -> Filler | None:
        """Take the lease of an object that is not complete; resumes what is there.

        Never waits for another process; only where the index and the file contradict each other, for
        the index.

        Returns:
            None when another process or another `Filler` has the lease, or the object is complete.

        Raises:
            CacheFull: no space for another file.
            CacheBroken: the disk or the index failed.
        """
        if (held := self.held(node)) is not None:
            return self._fill_on(held, node)
        paths = self._names.of(node.key)
        while True:
            with suppress(_StaleError), self._space.noted([node.id]):
                return self._hold(
                    node, paths, _files.take(*paths, True).run(), rows.get(self._reader, node.id)
                )

    async def begin(self, node: Node) -> Filler | None:
        """`fill`, without blocking the event loop."""
        if (held := self.held(node)) is not None:
            return await self.patiently(self._fill_on, held, node)
        paths = self._names.of(node.key)
        while True:
            # Noted on the loop: eight bytes, and the way to a thread would cost a quarter of a small file.
            with suppress(_StaleError), self._space.noted([node.id]):
                job = await done(_files.take(*paths, True), waits=self.syncing)
                return self._hold(node, paths, job, rows.get(self._reader, node.id))

    async def begin_all(self, nodes: Sequence[Node]) -> list[Filler | None]:
        """`begin` for many of which nothing is here, as far as is known; None: there is more to it."""
        fillers: dict[int, Filler | None] = {}
        paths = {node.id: self._names.of(node.key) for node in nodes if self.held(node) is None}
        jobs: dict[int, Job] = {id_: _files.take(*each, True) for id_, each in paths.items()}
        with self._space.noted(list(paths)):
            await all_done(list(jobs.values()), waits=self.syncing)
            known = rows.get_all(self._reader, list(paths))
            for node in nodes:
                if node.id in jobs:
                    with suppress(Exception):  # whatever it is, `begin` says so
                        row = known.get(node.id)
                        fillers[node.id] = self._hold(node, paths[node.id], jobs.pop(node.id), row)
        return [fillers.get(node.id) for node in nodes]

    def allot(self, filler: Filler, size: int) -> bool:
        """`reserve`, where there is room at once; False: there is not."""
        return self._space.allot(filler.held, min_total(filler.held, size))

    def _hold(self, node: Node, paths: Paths, job: Job, row: ObjectRow | None) -> Filler | None:
        """Begin with a lease that was taken before the ``row`` was read; whoever had it had written that.

        Raises `_StaleError`: it has to be taken once more.
        """
        taken = Taken.of(paths.part, job)
        if taken is None:
            return None
        lease, fd = taken.lease, taken.writer
        try:
            held = self._held_by(node, paths, taken, row)
            if held is None:
                lease.remove()
                return None
            self._space.begun(held)
            try:
                fd = open_write(paths.part) if fd < 0 else fd
            except OSError as exc:
                self._space.finished(held)
                raise errors.of_os(exc, f"write {node.name} to the cache") from exc
        except BaseException as exc:
            if fd >= 0:
                os.close(fd)
            # Somebody may still read from what lies there, so it is replaced, not written over.
            stale = isinstance(exc, _StaleError) or lease.size == 0
            lease.remove() if stale else lease.release()
            raise
        finally:
            if taken.found >= 0:
                os.close(taken.found)
        with self._lock:
            self._held[node.key] = held
        return self._filler(held, fd)

    def _held_by(self, node: Node, paths: Paths, taken: Taken, row: ObjectRow | None) -> Held | None:
        """What a lease holds; None: the object is complete."""
        lease = taken.lease
        if taken.found >= 0 and not self._clear(taken.found, node, row, paths):
            return None
        if _continues(row, lease, node):
            runs = Sums() if row is None else rows.runs(self._reader, node.id)
            if max((run.stop for run in runs), default=0) <= lease.size:
                return Held(node, paths, lease, runs, 0 if row is None else row.occupied)
        # The index speaks of another file: it has to forget that one for good first.
        if row is not None:
            self._writer.submit(lambda db: rows.delete(db, node.id), durable=True).result()
        raise _StaleError

    def _fill_on(self, held: Held, node: Node) -> Filler | None:
        """Take back an object whose last checkpoint is still under way."""
        with held.lock:
            if held.state is not HeldState.CLOSED or held.failure is not None:
                return None
            try:
                fd = open_write(held.paths.part)
            except OSError as exc:
                raise errors.of_os(exc, f"write {held.node.name} to the cache") from exc
            held.state = HeldState.FILLING
            held.node = node  # its size may be known by now
            held.size = node.size if held.size is None else held.size
        return self._filler(held, fd)

    def _filler(self, held: Held, fd: int) -> Filler:
        return Filler(held, fd, self._durability, self._space, self._forget_rows)

    def _clear(self, fd: int, node: Node, row: ObjectRow | None, paths: Paths) -> bool:
        """Remove a final name that is of no use, holding the lease; False: the object is complete."""
        shared = share(fd)
        if self._judge(fd, node, row, shared=shared, leased=True) is _Verdict.GOOD:
            return False
        log.info("the object of %s was never made safe, it is fetched again", node.name)
        if row is not None:
            self._writer.submit(lambda db: rows.delete(db, node.id), durable=True).result()
        unlink(paths.final)
        return True

    # -- other -------------------------------------------------------------------------------

    def touch(self, node: int, at: float | None = None) -> None:
        """Note that an object was opened (epoch seconds; None: now). It is written some seconds later."""
        self._durability.used(node, time.time() if at is None else at)

    async def learn(self, node: Node, validator: str) -> str | None:
        """Note the strong validator under which the bytes of a version come; returns the one that is known.

        It is another one when somebody has learned of another version meanwhile.
        """
        return await self._writer.run(lambda db: rows.learn(db, node.id, validator))

    async def reserve(self, filler: Filler, size: int) -> None:
        """Make sure that a file that is being filled may have ``size`` bytes; evicts others for it.

        Raises:
            CacheFull: there is no room, and nothing may go.
            CacheBroken: the index failed.
        """
        await self.eviction.reserve(filler.held, size)

    async def free(self, size: int) -> int:
        """Evict objects that take ``size`` bytes or more; returns how many bytes were freed."""
        return await self.eviction.free(size)

    def touch_many(self, opens: Iterable[tuple[int, float]]) -> None:
        """Note that objects were used before now: node id, epoch seconds. As cheap as `touch`."""
        for node, at in opens:
            self._durability.used(node, at)

    async def shrink(self) -> int:
        """Evict what is more than the limits allow; returns how many bytes were freed."""
        return await self.eviction.shrink()

    async def make_room(self) -> bool:
        """Evict something, so that the index can grow; False: nothing may go."""
        return await self.free(INDEX_ROOM) > 0

    async def drop(self, node: Node) -> None:
        """Remove an object, complete or not, unless somebody is filling it.

        Raises:
            CacheFull, CacheBroken: it is still there.
        """
        await self.sync()
        await trio.to_thread.run_sync(self._drop, node)
        if self.held(node) is not None:
            await self.sync()  # completed meanwhile, it would pass for complete until it was to be sealed

    @property
    def syncing(self) -> bool:
        """Whether a sync is under way: whoever makes or renames a file now waits for the disk."""
        return self._durability.syncing

    async def patiently(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Do what looks up, makes or changes names: in a thread while that waits for a sync, else at once."""
        return await trio.to_thread.run_sync(work, *args) if self.syncing else work(*args)

    def gather(self, seconds: float) -> None:
        """Seal complete objects after so many seconds together: each time everybody waits who makes files.

        A power cut, or the end of this process without a word, costs those that were not. Whoever needs
        them safe calls `sync`. Where room is short they are sealed as soon as ever: others cannot evict them
        before.
        """
        self._durability.gather = seconds

    async def sync(self) -> None:
        """Wait until all that is complete is sealed, and all that is written is safely on disk."""
        await result_of(self._durability.flush())

    def settle_the_dead(self) -> int:
        """Count what processes wrote that died; returns how many there were. Blocks."""
        return self._space.settle_the_dead(self.settle)

    def settle(self, id_: int) -> None:
        """Make the row of a node's object what its files are, when nobody is known to write it. Blocks."""
        node = self._tree_behind.node(id_)
        if node is None:
            return
        fd = self.open_complete(node)  # takes it over, and counts it, if it says what it is
        if fd is None:
            self.removal.settle(node)
        else:
            os.close(fd)
            self._writer.submit(lambda _: None).result()  # what was taken over has its row

    def close(self) -> None:
        """Make everything safe and end. Blocks. Fillers that are left must not be used any more."""
        self._durability.close()
        for held in list(self._held.values()):
            # The others' leases have ended, or end with the writer's last work.
            if held.state is HeldState.FILLING:
                held.lease.release()
        self._held.clear()

    # -- for the other modules of this package -----------------------------------------------

    def held(self, node: Node) -> Held | None:
        """The object as this process holds it, if it does."""
        held = self._held.get(node.key)
        gone = held is None or held.state in (HeldState.DISCARDED, HeldState.RELEASED)
        return None if gone else held

    def node(self, id_: int) -> Node | None:
        """The node of an id. For threads."""
        return self._tree_behind.node(id_)

    # -- judging and dropping ----------------------------------------------------------------

    def _judge(
        self, fd: int, node: Node, row: ObjectRow | None, *, shared: bool, leased: bool = False
    ) -> _Verdict:
        """What an open file with the final name of a node's object is.

        Args:
            fd: the file.
            node: the version that it should be.
            row: what the index said after the file was opened.
            shared: it can be in use; False: a living process seals or removes it.
            leased: this process holds the lease of its ``.part`` name.
        """
        status = os.fstat(fd)
        if not status.st_nlink:
            return _Verdict.LEAVING
        if not trustworthy(status):
            return _Verdict.BAD
        held = self._held.get(node.key)
        if held is not None and held.state is HeldState.COMPLETE:
            return _Verdict.GOOD if status.st_size == held.size else _Verdict.BAD
        # Who removes an object has the lease of its other name as well; who seals it does not.
        if not shared and not leased and os.path.lexists(self._names.of(node.key).part):
            return _Verdict.LEAVING
        if row is None or not row.sealed:
            if not shared:
                return _Verdict.GOOD if node.size in (None, status.st_size) else _Verdict.LEFT
            seen = identity.read(fd)
            size_fits = seen is not None and seen.size == status.st_size
            if seen is not None and size_fits and seen.is_of(node, self._tree.place(node.id)):
                occupied = status.st_blocks * 512 + BLOCK
                found = Sealed(
                    node.id, status.st_ino, status.st_size, occupied, crc=seen.crc, digest=seen.digest
                )
                self._writer.submit(
                    lambda db: rows.put_sealed(db, [found], Payer(self._space.payers(node.id)))
                )
                return _Verdict.GOOD
            # Nobody holds it now; whoever did had written the row before letting go.
            row = rows.get(self._reader, node.id)
            if row is None or not row.sealed:
                return _Verdict.LEFT
        return _Verdict.GOOD if status.st_size == row.size else _Verdict.BAD

    def _drop_bad(self, node: Node, paths: Paths, row: ObjectRow | None) -> bool:
        """Remove an object that is not what its ``row`` says; its readers do not wait for that.

        False: somebody else has removed it, or fetched it again.
        """
        try:
            lease = Lease.take(paths.part)
        except CacheFull:
            return False  # no room even for an empty file: it is not served, and dropped another time
        if lease is None:
            return False
        if rows.get(self._reader, node.id) != row:
            lease.remove()
            return False
        if os.path.lexists(paths.final):
            log.warning("the cached object of %s was damaged: it is fetched again", node.name)
        else:  # by a hand, or by a process that was killed while it evicted
            log.info("the cached object of %s is gone: it is fetched again", node.name)
        try:
            unlink(paths.final)
            deleted = self._writer.submit(lambda db: rows.delete(db, node.id), durable=True)
        except CacheError:
            lease.remove()
            raise
        deleted.add_done_callback(lambda _: lease.remove())
        return True

    def _drop(self, node: Node) -> None:
        self.removal.remove([node], in_use=True)
        self._space.give_back()

    def _forget_rows(self, held: Held) -> None:
        """Delete the rows of a discarded object, then end its lease."""

        def ended(_: object) -> None:
            held.lease.release()
            self._released(held)

        deleted = self._writer.submit(lambda db: rows.delete(db, held.node.id), durable=True)
        deleted.add_done_callback(ended)

    def _released(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.node.key) is held:
                del self._held[held.node.key]


def _complete(size: int) -> ObjectState:
    return ObjectState(True, Extents([(0, size)]))


def _continues(row: ObjectRow | None, lease: Lease, node: Node) -> bool:
    """Whether the index and the ``.part`` file speak of the same bytes, or both of none."""
    if row is None:
        return lease.size == 0
    if row.sealed or row.inode != lease.inode:
        return False
    return None in (row.size, node.size) or row.size == node.size
