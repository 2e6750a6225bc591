"""Room for what is fetched: reserved before a byte is written, so that the cache is never over its limits.

Everything that objects take is counted in the index (``queues``, kept by triggers); what a process is
about to write is in its claim. All claims and objects together never exceed the limits, and a claim
grows only in a transaction that sees all of them. So it makes no difference how many processes and
fills there are.

A claim is taken in steps (`STEP`), and the fills of a process draw from it without a transaction each:

    row of claims  =  allotted to fills, and not yet counted in the rows of their objects  +  spare

Rows of objects grow at checkpoints and at sealing, and the claim shrinks by as much in the same
transaction. What a dead process had claimed is counted by whoever comes next (`settle_the_dead`); an object
of its that is found before is paid for by its claim (`payers`), or it would be counted twice until then.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from cache import claims, disks, errors
from cache.claims import Claim, DeadClaim
from cache.errors import CacheError, CacheFull
from cache.held import Held
from cache.index import Reader, Row
from cache.limits import Amount, Disk, Limits, Room, room
from cache.writer import Writer

log = logging.getLogger(__name__)

STEP = 64 * 1024 * 1024
"""Bytes by which a claim grows, where there is plenty of room."""
UNKNOWN_STEP = 4 * 1024 * 1024
"""Bytes by which a file grows whose length nobody has told."""
SHARE = 64
"""A step is at most this part of what the cache may hold."""
BLOCK = 4096
"""Bytes that the file systems we know give out at a time."""

_SUMS = "SELECT (SELECT sum(bytes) FROM queues), (SELECT coalesce(sum(bytes), 0) FROM claims)"
_LIMITS = "SELECT cache_size, min_free FROM space"
_GROW = """
    INSERT INTO claims (name, bytes) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET bytes = bytes + ?2
"""


@dataclass(frozen=True, slots=True)
class Short:
    """There is no room for what was asked for; so many bytes are missing."""

    missing: int
    room: Room


def footprint(size: int) -> int:
    """Bytes of disk that a file of ``size`` bytes takes at most: whole blocks, and two that describe them.

    One of those is the inode, the other holds its identity. A file that comes in many pieces has an index
    of its blocks, for which a part in 2048 is ample.
    """
    return -(-size // BLOCK) * BLOCK + 2 * BLOCK + size // 2048


def min_total(held: Held, size: int) -> int:
    """What to allot an object that is to have ``size`` bytes: all of it where its length is known.

    Else in steps, so that not every write asks for more.
    """
    if held.size is not None:
        return footprint(held.size)
    return footprint(-(-size // UNKNOWN_STEP) * UNKNOWN_STEP)


class Space:
    """This process's claim, and what is allotted of it. Safe for use by several threads."""

    def __init__(self, cache: Path, reader: Reader, writer: Writer) -> None:
        self._cache = cache
        self._reader = reader
        self._writer = writer
        # Whoever has this one writes to a file, which may wait for a sync: it is held for nothing else.
        # It is taken before the other.
        self._noting = threading.Lock()
        self._claim: Claim | None = None  # guarded by _noting
        self._lock = threading.Lock()
        # All below is guarded by _lock.
        self._changing: Counter[int] = Counter()
        self._claimed = 0
        self._allotted = 0
        self._takers: set[Held] = set()
        self._settling: list[DeadClaim] = []

    # -- what there is -----------------------------------------------------------------------

    def limits(self) -> Limits:
        """What is set. Raises `CacheBroken` when the index cannot be read."""
        return _limits(self._reader.one(_LIMITS))

    async def set_limits(self, limits: Limits) -> None:
        """Set limits for everybody who uses this cache; a None leaves what was set."""
        values = (_text(limits.cache_size), _text(limits.min_free))
        sql = "UPDATE space SET cache_size = coalesce(?, cache_size), min_free = coalesce(?, min_free)"
        await self._writer.run(lambda db: db.execute(sql, values))

    async def unset_cache_size(self) -> None:
        """Let the disk be the only limit."""
        await self._writer.run(lambda db: db.execute("UPDATE space SET cache_size = NULL"))

    def room(self, limits: Limits | None = None) -> Room:
        """What the limits leave now; others than those that are set may be tried. Raises `CacheBroken`."""
        occupied, claimed = self._reader.one(_SUMS) or (0, 0)
        return room(limits or self.limits(), self._disk(), occupied, claimed)

    def _disk(self) -> Disk:
        try:
            return Disk.of(str(self._cache))
        except OSError as exc:
            raise errors.of_os(exc, f"ask for the room on {self._cache}") from exc

    @property
    def free(self) -> int:
        """Bytes that are free on the disk; 0: that cannot be told."""
        return disks.free(self._cache)

    def settle(self, expected: int) -> None:
        """Wait until the room of what was deleted is there: `disks.settle`."""
        disks.settle(self._cache, expected)

    # -- taking and giving back ----------------------------------------------------------------

    @property
    def claim_name(self) -> str:
        """Name of this process's claim; ``""`` before anything was claimed."""
        return "" if self._claim is None else self._claim.name

    @property
    def claimed(self) -> int:
        """Bytes that this process has claimed."""
        with self._lock:
            return self._claimed

    @property
    def busy(self) -> bool:
        """Whether anything is being written, or has room to be."""
        with self._lock:
            return self._writing()

    def _writing(self) -> bool:
        return any(held.allotted > held.counted for held in self._takers)

    def begun(self, held: Held) -> None:
        """An object that is noted is going to be filled, and stays noted; ends with `finished`."""
        with self._lock:
            self._takers.add(held)

    def allot(self, held: Held, total: int) -> bool:
        """Let an object take ``total`` bytes of disk in all, if the claim has so much to spare."""
        with self._lock:
            more = total - held.allotted
            if more <= 0:
                return True
            if self._claimed - self._allotted < more:
                return False
            held.allotted = total
            self._allotted += more
            return True

    def lacking(self, held: Held, total: int) -> int:
        """Bytes that the claim has too few of for `allot`; what it has to spare was freed for that, maybe."""
        with self._lock:
            return max(0, total - held.allotted - (self._claimed - self._allotted))

    def need(self, held: Held, size: int) -> None:
        """Make sure that an object may have ``size`` bytes; claims what is missing for that. Blocks.

        Raises:
            CacheFull: there is no room for them.
            CacheBroken: it cannot be claimed.
        """
        total = min_total(held, size)
        while not self.allot(held, total):
            short = self.grow(self.lacking(held, total)).result()
            if short is None:
                continue
            if held.size is not None or total == footprint(size):
                raise no_room(short, f"{held.node.name} ({size:,} bytes)")
            total = footprint(size)  # what is needed, where there is no room for a step of it

    @contextmanager
    def noted(self, nodes: list[int]) -> Iterator[None]:
        """`note`, and `forget_note` at the end. Blocks."""
        self.note(nodes)
        try:
            yield
        finally:
            self.forget_note(nodes)

    def note(self, nodes: list[int]) -> None:
        """Note whose objects are going to be changed, until that is forgotten. Blocks.

        To be called before a lease is taken: whoever settles for a dead process leaves alone what has one,
        and relies on its holder's note.

        Raises:
            CacheFull, CacheBroken: that cannot be noted.
        """
        with self._lock:
            self._changing.update(nodes)  # first: nobody drops a note of these from now on
        try:
            with self._noting:
                self._made().note(nodes)
        except BaseException:
            self.forget_note(nodes)
            raise

    def forget_note(self, nodes: list[int]) -> None:
        """They are not changed any more."""
        with self._lock:
            self._changing -= Counter(nodes)

    def _made(self) -> Claim:
        if self._claim is None:
            self._claim = Claim(self._cache)
        return self._claim

    def grow(self, wanted: int) -> Future[Short | None]:
        """Claim at least ``wanted`` bytes more; the result is None, or what is missing for that."""
        name = self.claim_name
        if not name:
            with self._noting:
                name = self._made().name

        def work(db: sqlite3.Connection) -> tuple[int, Short | None]:
            occupied, claimed = db.execute(_SUMS).fetchone()
            now = room(_limits(db.execute(_LIMITS).fetchone()), self._disk(), occupied, claimed)
            if now.left < wanted:
                return 0, Short(wanted - now.left, now)
            step = max(wanted, min(STEP, now.capacity // SHARE, now.left))
            db.execute(_GROW, (name, step))
            return step, None

        return self._submitted(work)

    def _submitted(
        self, work: Callable[[sqlite3.Connection], tuple[int, Short | None]]
    ) -> Future[Short | None]:
        """Run work that changes the claim by its first answer; the future has the second."""
        answer: Future[Short | None] = Future()

        def committed(future: Future[tuple[int, Short | None]]) -> None:
            try:
                change, short = future.result()
            except CacheError as exc:
                answer.set_exception(exc)
                return
            with self._lock:
                self._claimed += change
            answer.set_result(short)

        self._writer.submit(work).add_done_callback(committed)
        return answer

    def took(self, bytes_: int) -> None:
        """Note that the claim was given ``bytes_`` in a transaction of somebody else's (`freed_sql`)."""
        with self._lock:
            self._claimed += bytes_

    def counted(self, held: Held, occupied: int, paid: int) -> None:
        """Note that an object's row says ``occupied`` now, and that the claim has paid ``paid`` for it."""
        with self._lock:
            self._claimed -= paid
            if held in self._takers:
                self._allotted -= occupied - held.counted
            held.counted = occupied

    def finished(self, held: Held) -> None:
        """Nothing more is written to an object: what it did not need is spare."""
        with self._lock:
            if held in self._takers:
                self._takers.discard(held)
                self._allotted -= held.allotted - held.counted
            held.allotted = held.counted

    async def given_back(self) -> None:
        """`give_back`, without blocking the event loop."""
        await trio.to_thread.run_sync(self.give_back)

    def give_back(self) -> None:
        """Give back what is spare, but a step while there are fills. Blocks.

        Raises:
            CacheFull, CacheBroken: it stays claimed until this process ends.
        """
        with self._noting:
            claim = self._claim
            if claim is None:
                return
            with self._lock:
                needed = {held.node.id for held in self._takers} | self._changing.keys()
            claim.keep(needed)
        with self._lock:
            spare = self._claimed - self._allotted - (STEP if self._writing() else 0)
            if spare <= 0:
                return
            self._claimed -= spare  # at once: nobody may draw from it any more

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE claims SET bytes = max(0, bytes - ?) WHERE name = ?", (spare, claim.name))

        self._writer.submit(work).result()

    def close(self) -> None:
        """Give everything back. Blocks; nothing may be written any more."""
        with self._noting:
            claim, self._claim = self._claim, None
        if claim is None:
            return
        try:
            self._forget_claim(claim.name)
        except CacheError as exc:
            log.warning("a claim is left for the next process to settle: %s", exc)
            claim.leave()
            return
        claim.close()

    def _forget_claim(self, name: str) -> None:
        self._writer.submit(lambda db: db.execute("DELETE FROM claims WHERE name = ?", (name,))).result()

    # -- the dead ----------------------------------------------------------------------------

    def settle_the_dead(self, settle: Callable[[int], None]) -> int:
        """Count what dead processes wrote, one object after the other, and free their claims. Blocks.

        ``settle(node)`` makes the row of an object what its files are. Returns how many claims there were.
        """
        count = 0
        for claim in claims.dead(self._cache):
            with self._lock:
                self._settling.append(claim)
            try:
                for node in claim.nodes:
                    settle(node)
                self._forget_claim(claim.name)
            except CacheError as exc:
                log.warning("the claim of a process that died stays for now: %s", exc)
                self._has_settled(claim)
                claim.close()
            else:
                self._has_settled(claim)
                claim.settled()
                count += 1
        return count

    def _has_settled(self, claim: DeadClaim) -> None:
        with self._lock:
            self._settling.remove(claim)

    def payers(self, node: int) -> tuple[str, ...]:
        """Claims of dead processes, which pay for what is found of a node's object. Looks at files."""
        with self._lock:
            settling = [claim.name for claim in self._settling if node in claim.nodes]
        return *settling, *claims.left_for(self._cache, node)


def pay(db: sqlite3.Connection, names: Iterable[str], change: int) -> int:
    """Within a transaction: let claims pay, in turn, for ``change`` bytes that objects take more now.

    Returns what they could pay; a claim that is not there pays nothing.
    """
    return pay_all(db, names, [change])[0]


def pay_all(db: sqlite3.Connection, names: Iterable[str], changes: Sequence[int]) -> list[int]:
    """`pay` for one after the other."""
    left = [*changes]
    for name in names:
        row = db.execute("SELECT bytes FROM claims WHERE name = ?", (name,)).fetchone()
        if row is None:
            continue
        has = row[0]
        for at, change in enumerate(left):
            paid = min(change, has)
            has -= paid
            left[at] -= paid
        if has != row[0]:
            db.execute("UPDATE claims SET bytes = ? WHERE name = ?", (has, name))
    return [change - rest for change, rest in zip(changes, left, strict=True)]


def credit(db: sqlite3.Connection, name: str, bytes_: int) -> None:
    """Within a transaction: give a claim what was freed."""
    db.execute(_GROW, (name, bytes_))


def no_room(short: Short, what: str) -> CacheFull:
    """The error for what cannot be had, with the numbers."""
    now = short.room
    if now.disk_is_short:
        reason = "the file system of the cache has no more to give (min-free counted)"
    else:
        reason = f"the cache may hold {now.capacity:,} bytes, and {now.occupied + now.claimed:,} are taken"
    return CacheFull(f"no room for {what}: {reason}")


def _limits(row: Row | None) -> Limits:
    cache_size, min_free = row or (None, None)
    return Limits(
        None if cache_size is None else Amount.parse(cache_size),
        None if min_free is None else Amount.parse(min_free),
    )


def _text(amount: Amount | None) -> str | None:
    return None if amount is None else str(amount)
