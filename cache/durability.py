"""What is written becomes safe: one thread, behind everybody's back.

Readers and fillers never wait for a disk to sync. This thread follows them in batches, and the index
follows it: no row ever speaks of bytes that a power cut could still take.

- A *checkpoint* of an object that is being filled: ``fdatasync``, then the extents that were present
  before it. At most about once a second, or every 64 MiB.
- Meanwhile the disk is given what complete objects hold, some at a time: so less is left to do when they
  are sealed, and when somebody waits for that.
- *Sealing* complete objects: data to disk; then the identity attribute, whose presence proves the
  data; attribute and names to disk; then the rows, in one transaction; then the leases end. For a batch
  each step is taken for all objects before the next one, and from a few objects on with one ``syncfs``:
  500 small files are safe after 0.04 s that way and after 1.2 s one by one (ext4, measured), and every
  one of those syncs would hold up whoever creates the next file. It also writes what others have not
  written yet; nobody but this thread waits for that.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from cache import _sealing, errors, identity, libc, rows
from cache.errors import CacheBroken, CacheError
from cache.held import Held, HeldState
from cache.identity import Identity
from cache.model import Node
from cache.names import open_read, share, unlink
from cache.rows import Checkpoint, Payer, Sealed
from cache.space import BLOCK, Space, footprint
from cache.tree import Tree
from cache.writer import Writer

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.25
"""How long complete objects are gathered before they are sealed together, at least."""
REST = 3.0
GATHER_LONGEST = 2.0
"""They are gathered so many times as long as the last sealing took, up to a limit: while one is under way,
whoever makes or renames a file may have to wait for the disk."""
PLENTY = 4 * 1024**3
"""Bytes that may yet be written, beside which it does not matter what is gathered for longer."""
CHECKPOINT_SECONDS = 1.0
CHECKPOINT_BYTES = 64 * 1024 * 1024
"""A checkpoint is due so long after the first, or so much after the last write that none covers."""
BEGUN_TOGETHER = 32
"""So many complete objects are given to the disk at once, long before they have to be there."""
TOGETHER = 8
"""From so many objects on, the whole file system is synced at once."""
USED_SECONDS = 10.0
"""How long notes of use are gathered."""
LEASES = 4096
"""Most complete objects whose lease is kept until they are sealed, and never more than a quarter of the
descriptors this process may have. At half as many they are sealed without being gathered any longer. Should
more wait (a disk that cannot follow), the leases of further ones end early: another process may then fetch
such an object again."""

LOCK_SECONDS = 0.1
"""How often a lock is tried again that another process's sealing holds up."""
LOCK_TRIES = 600


class Durability:
    """The thread. ``released`` is called, in it, for every object that is not held any more."""

    def __init__(
        self, folder: str, tree: Tree, writer: Writer, space: Space, released: Callable[[Held], None]
    ) -> None:
        """``folder`` is that of all objects; ``tree`` and ``space`` have to have a reader of their own."""
        self._folder = folder
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tree = tree
        self._writer = writer
        self._space = space
        self._capacity = 0
        self.syncing = False
        """A sync is under way. To be read without a lock: it is a hint."""
        self._released = released
        self._leases = min(LEASES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._wake = threading.Condition()
        # All below is guarded by _wake.
        self._complete: list[Held] = []
        self._unsealed = 0  # of _complete and of those being sealed
        self._begun = 0  # of _complete, those that the disk was given
        self._dirty: set[Held] = set()
        self._used: dict[int, float] = {}
        self._unlocked: list[tuple[int, int]] = []  # descriptor, and how often its lock was tried
        self._flushes: list[Future[None]] = []
        # Monotonic seconds when it has to be done, None: there is nothing to do.
        self._seal_at: float | None = None
        self._used_at: float | None = None
        self._lock_at: float | None = None
        self.gather = 0.0
        """Seconds that complete objects are gathered at least, where that is more than `GATHER_SECONDS`, and
        while there is plenty of room: nobody else can evict what is not sealed."""
        self._plenty = False
        self._rest = 0.0  # seconds that the last sealing calls for
        self._waits_until = inf
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="cache-durability", daemon=True)
        self._thread.start()

    # -- for everybody; never waits ----------------------------------------------------------

    def wrote(self, held: Held, size: int) -> None:
        """Note that ``size`` bytes were written. To be called with ``held.lock``."""
        held.unsynced += size
        if held.next_checkpoint is None:
            held.next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
            with self._wake:
                self._dirty.add(held)
                self._be_awake(held.next_checkpoint)
        elif held.unsynced >= CHECKPOINT_BYTES > held.unsynced - size:
            held.next_checkpoint = time.monotonic()
            with self._wake:
                self._be_awake(held.next_checkpoint)

    def closed(self, held: Held) -> None:
        """Checkpoint an object that its filler gave back, then end its lease. With ``held.lock``."""
        held.next_checkpoint = time.monotonic()
        with self._wake:
            self._dirty.add(held)
            self._be_awake(held.next_checkpoint)

    def seal(self, held: Held) -> None:
        """Seal an object that is complete, and end its lease."""
        with self._wake:
            self._dirty.discard(held)
            if self._unsealed >= self._leases:
                held.lease.release()
            self._unsealed += 1
            self._complete.append(held)
            if self._seal_at is None:
                gather = self.gather if self._plenty else GATHER_SECONDS
                self._seal_at = time.monotonic() + max(GATHER_SECONDS, gather, self._rest)
                self._be_awake(self._seal_at)
            elif len(self._complete) == self._leases // 2:
                self._seal_at = time.monotonic()
                self._be_awake(self._seal_at)
            if self._many_to_begin():
                self._be_awake(0.0)

    def forget(self, held: Held) -> None:
        """Never mind: it was discarded."""
        with self._wake:
            self._dirty.discard(held)

    def used(self, node: int, at: float) -> None:
        """Note that an object was opened (epoch seconds)."""
        with self._wake:
            self._used[node] = max(at, self._used.get(node, 0.0))
            if self._used_at is None:
                self._used_at = time.monotonic() + USED_SECONDS
                self._be_awake(self._used_at)

    def lock_later(self, fd: int) -> None:
        """Say by a lock that an object is in use, once another process has sealed it.

        Takes the descriptor.
        """
        with self._wake:
            self._lock_soon(fd, 0)

    def flush(self) -> Future[None]:
        """Do at once all that was asked for so far; the future is done when it is done."""
        done: Future[None] = Future()
        with self._wake:
            if not self._thread.is_alive():
                done.set_exception(CacheBroken("the cache is closed"))
                return done
            self._flushes.append(done)
            self._be_awake(0.0)
        return done

    def close(self) -> None:
        """Do all that is left, then end the thread. Blocks."""
        with self._wake:
            self._ending = True
            self._be_awake(0.0)
        self._thread.join()

    def _lock_soon(self, fd: int, tries: int) -> None:
        self._unlocked.append((fd, tries))
        if self._lock_at is None:
            self._lock_at = time.monotonic() + LOCK_SECONDS
            self._be_awake(self._lock_at)

    def _be_awake(self, when: float) -> None:
        """Have the thread look what there is to do, at a time; with the lock."""
        if when < self._waits_until:
            self._waits_until = when
            self._wake.notify()

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            ending = False
            while not ending:
                ending = self._turn()
        finally:
            os.close(self._folder_fd)
            with self._wake:
                self._ending = True
                for flush in self._flushes:
                    flush.set_exception(CacheBroken("the cache is closed"))
                self._flushes.clear()

    def _due(self) -> float:
        """Monotonic seconds when the next thing has to be done; with the lock."""
        if self._flushes or self._ending or self._many_to_begin():
            return 0.0
        times = (self._seal_at, self._used_at, self._lock_at, *(held.next_checkpoint for held in self._dirty))
        return min((at for at in times if at is not None), default=inf)

    def _many_to_begin(self) -> bool:
        """With the lock."""
        return len(self._complete) - self._begun >= BEGUN_TOGETHER

    def _turn(self) -> bool:
        """Wait until something is due and do all that is; True: it was the last time."""
        with self._wake:
            while (left := self._due() - time.monotonic()) > 0:
                self._waits_until = self._due()
                self._wake.wait(None if left == inf else left)
            now = inf if self._flushes or self._ending else time.monotonic()
            ending, flushes, self._flushes = self._ending, self._flushes, []
            complete: list[Held] = []
            used: dict[int, float] = {}
            unlocked: list[tuple[int, int]] = []
            if now >= (self._seal_at or inf):
                complete, self._complete, self._seal_at, self._begun = self._complete, [], None, 0
            begun, self._begun = self._complete[self._begun :], len(self._complete)
            if now >= (self._used_at or inf):
                used, self._used, self._used_at = self._used, {}, None
            if now >= (self._lock_at or inf):
                unlocked, self._unlocked, self._lock_at = self._unlocked, [], None
            dirty = [held for held in self._dirty if (held.next_checkpoint or 0.0) <= now]
            self._dirty.difference_update(dirty)
        failure: CacheBroken | None = None
        self.syncing = bool(complete or dirty)
        began = time.monotonic()
        try:
            # Descriptors that others close meanwhile do no harm.
            _sealing.begin_writing([held.lease.fd for held in begun])
            self._seal(complete)
            self._checkpoint(dirty)
            if complete:
                self._rest = min(GATHER_LONGEST, REST * (time.monotonic() - began))
            if used:
                _committed(self._writer.submit(lambda db: rows.put_used(db, used)))
            self._lock(unlocked, last=ending)
            if not self._space.busy or ending:
                self._space.give_back()
        except Exception as exc:
            # Whoever waits must hear of it, and what comes next must still be made safe.
            log.exception("not all that was written could be made safe")
            failure = CacheBroken(f"cannot make safe what was written: {exc!r}")
        finally:
            self.syncing = False
        for flush in flushes:
            if failure is None:
                flush.set_result(None)
            else:
                flush.set_exception(failure)
        return ending

    # -- checkpoints -------------------------------------------------------------------------

    def _checkpoint(self, dirty: Iterable[Held]) -> None:
        synced = [(held, point) for held in dirty if (point := self._sync_partial(held)) is not None]
        payer = self._payer() if synced else Payer()
        submitted = []
        for held, point in synced:
            # Under the lock: a discard deletes rows, and has to find these ones queued before it.
            with held.lock:
                if held.state in (HeldState.FILLING, HeldState.CLOSED):
                    future = self._writer.submit(partial(rows.put_checkpoint, point=point, payer=payer))
                    submitted.append((held, point, future))
        for held, point, future in submitted:
            if _committed(future):
                held.durable = point.runs
                self._space.counted(held, point.occupied, future.result())
        for held in dirty:
            self._end_closed(held)

    def _sync_partial(self, held: Held) -> Checkpoint | None:
        with held.lock:
            held.unsynced = 0
            held.next_checkpoint = None
            if held.state not in (HeldState.FILLING, HeldState.CLOSED) or held.failure is not None:
                return None
            if held.alone:
                return None  # what a crash leaves of it must not be continued
            runs = held.sums.copy()
        if list(runs) == list(held.durable):
            return None
        try:
            os.fdatasync(held.lease.fd)
            # XFS sets room aside behind a file that grows, as much again at times, until nobody writes to it.
            most = footprint(held.present.stop if held.size is None else held.size)
            occupied = min(_occupied(held.lease.fd), most)
        except OSError as exc:
            if held.state in (HeldState.FILLING, HeldState.CLOSED):  # else its descriptor went with it
                self._lost(held, exc)
            return None
        return Checkpoint(
            held.node.id,
            held.lease.inode,
            held.size,
            occupied,
            held.validator,
            runs,
            held.durable,
            held.arrival,
        )

    def _end_closed(self, held: Held) -> None:
        with held.lock:
            if held.state is not HeldState.CLOSED or held.next_checkpoint is not None:
                return  # discarded, or filled on, maybe given back once more already
            held.state = HeldState.RELEASED
            held.lease.release()
        self._space.finished(held)
        self._released(held)

    # -- sealing -----------------------------------------------------------------------------

    def _seal(self, complete: Sequence[Held]) -> None:
        """Seal what can be; what cannot be synced loses its name, and is fetched again when asked for."""
        if not complete:
            return
        try:
            self._seal_ready([held for held in complete if self._reopened(held)])
        finally:
            _end_leases(complete)
            for held in complete:
                self._space.finished(held)
                self._released(held)
            with self._wake:
                self._unsealed -= len(complete)

    def _seal_ready(self, ready: list[Held]) -> None:
        ready, _ = self._all_synced(ready, os.fdatasync)
        occupied = self._identified(ready)
        ready, names_too = self._all_synced(list(occupied), os.fsync)
        if ready and (names_too or self._sync_folders(held.paths.final for held in ready)):
            payer = self._payer()
            sealed = [_sealed(held, occupied[held]) for held in ready]
            paid = self._writer.submit(lambda db: rows.put_sealed(db, sealed, payer))
            if _committed(paid):
                for held, row, bytes_ in zip(ready, sealed, paid.result(), strict=True):
                    self._space.counted(held, row.occupied, bytes_)

    def _payer(self) -> Payer:
        with suppress(CacheError):  # what it was before is as good
            room = self._space.room()
            self._capacity = room.capacity
            self._plenty = room.left >= PLENTY
        return Payer((self._space.claim_name,), self._capacity)

    def _reopened(self, held: Held) -> bool:
        """Make sure of a descriptor, where the lease ended early; False: the object is gone since."""
        if held.lease.fd >= 0:
            return True
        try:
            fd = open_read(held.paths.final)
        except CacheError as exc:  # no descriptors left: fetched again by the next process that wants it
            log.warning("%s is not sealed: %s", held.node.name, exc)
            return False
        if fd is None:
            return False
        held.lease.fd = fd
        return os.fstat(fd).st_ino == held.lease.inode

    def _all_synced(self, ready: list[Held], sync: Callable[[int], None]) -> tuple[list[Held], bool]:
        """Those whose bytes are on disk now; True: and everything else, names included."""
        if len(ready) >= TOGETHER and self._sync_file_system():
            return ready, True
        _sealing.begin_writing([held.lease.fd for held in ready])
        return [held for held in ready if self._synced(held, sync)], False

    def _sync_file_system(self) -> bool:
        """Sync everything at once; False when any byte of the file system failed, ours or not."""
        if libc.syncfs(self._folder_fd):
            return True
        log.warning("the file system of the cache reports lost writes, looking for ours one by one")
        return False

    def _synced(self, held: Held, sync: Callable[[int], None]) -> bool:
        try:
            sync(held.lease.fd)
        except OSError as exc:
            self._lost(held, exc)
            unlink(held.paths.final)
            return False
        return True

    def _identified(self, ready: Sequence[Held]) -> dict[Held, int]:
        """Let objects say what they are; returns those still there, and what they take of the disk."""
        folders: dict[int, tuple[str, str]] = {}
        # This thread alone closes the descriptors of complete objects: none can be another file's by now.
        marks = [(held.lease.fd, self._identity(held, folders)) for held in ready]
        occupied: dict[Held, int] = {}
        for held, mark in zip(ready, _sealing.mark(identity.ATTRIBUTE, marks), strict=True):
            error, names, bytes_ = mark
            if error and error not in identity.CANNOT:
                self._lost(held, OSError(error, os.strerror(error)))
                unlink(held.paths.final)
            elif names:  # without one another process was asked to drop it
                occupied[held] = bytes_ + BLOCK
        return occupied

    def _identity(self, held: Held, folders: dict[int, tuple[str, str]]) -> bytes | None:
        """What an object is to say; ``folders`` are the places of those that were asked for already."""
        try:
            place, size = self._place(held.node, folders), held.size or 0
        except CacheError as exc:
            log.warning("%s is sealed without its identity: %s", held.node.name, exc)
            return None
        crc, digest = held.sums.whole(size), held.digest
        return identity.value(
            Identity.of(held.node, place, size, validator=held.validator, crc=crc, digest=digest)
        )

    def _place(self, node: Node, folders: dict[int, tuple[str, str]]) -> tuple[str, str]:
        """`Tree.place`; the neighbours of a file that was asked for are found without a question."""
        if node.parent not in folders:
            folders[node.parent] = self._tree.place(node.parent)
        source, path = folders[node.parent]
        return source, f"{path}/{node.name}" if path else node.name

    def _sync_folders(self, objects: Iterable[str]) -> bool:
        """Sync the folders that objects have their names in, and the one above."""
        folders = {os.path.dirname(path) for path in objects}  # noqa: PTH120
        try:
            for folder in (*sorted(folders), self._folder):
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        except OSError as exc:
            log.error("the names of complete objects may not be on disk: %s", exc.strerror)  # noqa: TRY400
            return False
        return True

    def _lost(self, held: Held, exc: OSError) -> None:
        """The disk did not take what was written: the page cache cannot be believed from now on."""
        log.error("bytes of %s were lost on their way to the disk: %s", held.node.name, exc.strerror)
        with held.lock:
            held.failure = errors.of_os(exc, f"keep {held.node.name}")

    def _lock(self, unlocked: Iterable[tuple[int, int]], *, last: bool) -> None:
        """Try the locks that another process's sealing held up."""
        for fd, tries in unlocked:
            if share(fd) or last or tries == LOCK_TRIES:
                os.close(fd)
                continue
            with self._wake:
                self._lock_soon(fd, tries + 1)


def _end_leases(complete: Iterable[Held]) -> None:
    """Let the descriptors that were given out say that an object is in use, and end its lease."""
    leases: list[int] = []
    copies: list[int] = []
    for held in complete:
        with held.lock:
            held.state = HeldState.RELEASED
            copies += held.given_out
            held.given_out = []
            leases += held.lease.handed_over()
    _sealing.end_leases(leases, copies)


def _sealed(held: Held, occupied: int) -> Sealed:
    size = held.size or 0
    crc = held.sums.whole(size)
    return Sealed(
        held.node.id,
        held.lease.inode,
        size,
        occupied,
        held.validator,
        crc,
        None if crc is None else held.sums.packed(),
        held.digest,
        held.arrival,
        learned=(held.node.size, held.node.validator) != (size, held.validator),
    )


def _occupied(fd: int) -> int:
    """Bytes of disk that a file takes; one block more for what describes it. Raises OSError."""
    return os.fstat(fd).st_blocks * 512 + BLOCK


def _committed(future: Future[Any]) -> bool:
    """Wait for rows to be committed; False, and logged, when they could not be.

    Without its rows a partial object starts where it last had some, and a complete one is known by
    its identity.
    """
    try:
        future.result()
    except CacheError as exc:
        log.warning("what is cached could not be noted: %s", exc)
        return False
    return True
