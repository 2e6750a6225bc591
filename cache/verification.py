"""Reading what is cached again, and comparing it with the checksums of what came.

An object is read from the disk itself where the file system allows that (``O_DIRECT``): the page cache
may have a good copy of what has rotted, and must not be flushed for a look. What is about to be registered
is read through the very descriptor that is registered (`Verification.intact`): nobody has it open for
writing, so what was compared is what is served.

A damaged object is removed. Where somebody has it in use, that cannot take away what they already have; so
its node is retired as if the origin had another version, and the same version gets a new node: whoever
opens the name from then on gets good bytes, whatever is still open.
"""

from __future__ import annotations

import logging
import mmap
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

import trio

from cache import errors, rows, versions
from cache._files import crc32c
from cache.digests import Digest, Hasher, hasher
from cache.errors import CacheError
from cache.held import HeldState
from cache.index import Reader
from cache.model import Node
from cache.objects import Objects
from cache.recalls import Recalls
from cache.sums import BLOCK, Run, Sums, damaged, unpacked
from cache.writer import Writer

log = logging.getLogger(__name__)

PIECE = 1024 * 1024
"""Bytes read at a time."""

Pace = Callable[[int], Awaitable[None]]
"""Called with the bytes of each run that was read, waits as long as it should take."""


class State(Enum):
    """What a look at an object found."""

    GOOD = auto()
    """All its bytes are what came."""
    BAD = auto()
    """They are not. It was removed."""
    UNKNOWN = auto()
    """It has no checksums: it was cached by a version that kept none, or taken over after a crash."""
    ABSENT = auto()
    """Nothing of it is here, or somebody fills it now."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome for one object."""

    node: Node
    """The node that stands for its version now: another one, if it was bad and in use."""
    state: State
    bytes_read: int = 0
    damaged: tuple[tuple[int, int], ...] = ()
    """Of a bad object: the byte ranges that are not what came; empty when only the whole is known to be."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the bytes of an object have to be."""

    size: int
    crc: int
    runs: list[Run]
    """Empty: only the whole is known."""
    digest: Digest | None


async def no_pace(_bytes: int) -> None:
    """As fast as the disk can."""


class Verification:
    """Checks objects of one cache. Its reader is used in threads and has to be of its own."""

    def __init__(self, objects: Objects, recalls: Recalls, reader: Reader, writer: Writer) -> None:
        self._objects = objects
        self._recalls = recalls
        self._reader = reader
        self._writer = writer

    # -- one object --------------------------------------------------------------------------

    async def check(self, node: Node, pace: Pace = no_pace) -> Finding:
        """Read an object again, complete or not; a bad one is removed.

        Raises:
            CacheFull, CacheBroken: it cannot be read, or not be removed.
        """
        fd, dropped = await trio.to_thread.run_sync(self._objects.examine, node)
        if dropped:
            return Finding(node, State.BAD)
        if fd is None:
            return await self._check_partial(node, pace)
        try:
            known = await trio.to_thread.run_sync(self._known, node)
            if known is None:
                # It may have been taken over a moment ago: then its row is on its way.
                await self._writer.run(lambda _: None)
                known = await trio.to_thread.run_sync(self._known, node)
            if known is None:
                return Finding(node, State.UNKNOWN)
            bad = await self._compare(fd, known, pace)
        finally:
            os.close(fd)
        if bad is None:
            try:
                await self._writer.run(partial(_put_verified, node=node.id, at=time.time()))
            except CacheError as exc:
                log.info("that %s is good could not be noted: %s", node.name, exc)
            return Finding(node, State.GOOD, known.size)
        return await self._remove_bad(node, known.size, bad)

    async def intact(self, node: Node, fd: int) -> bool:
        """Whether what a descriptor of a complete object reads is what came; a bad object is removed.

        False as well for one without checksums, which is removed too: who asks this wants to be sure.
        The descriptor is closed then.
        """
        known = await trio.to_thread.run_sync(self._known, node)
        bad: tuple[tuple[int, int], ...] | None = ()
        if known is None:
            log.warning("%s has no checksums: it is fetched again", node.name)
        else:
            bad = await self._compare(fd, known, no_pace, direct=False)
            if bad is None:
                return True
        os.close(fd)
        await self._remove_bad(node, 0, bad or ())
        return False

    async def due(self, before: float) -> Node | None:
        """The object that was looked at the longest ago, if that was before ``before`` (epoch seconds)."""
        return await trio.to_thread.run_sync(self._due, before)

    def _due(self, before: float) -> Node | None:
        sql = (
            "SELECT node FROM objects WHERE crc IS NOT NULL AND coalesce(verified_at, sealed_at) < ? "
            "ORDER BY coalesce(verified_at, sealed_at) LIMIT 1"
        )
        row = self._reader.one(sql, before)
        return None if row is None else self._objects.node(row[0])

    # -- comparing ---------------------------------------------------------------------------

    def _known(self, node: Node) -> _Known | None:
        held = self._objects.held(node)
        if held is not None and held.state is HeldState.COMPLETE:
            size, digest = held.size or 0, held.digest
            crc, runs = held.sums.whole(size), list(held.sums)
        else:
            sql = "SELECT size, crc, sums, digest FROM objects WHERE node = ? AND sealed_at IS NOT NULL"
            row = self._reader.one(sql, node.id)
            if row is None:
                return None
            size, crc, packed, digest = row
            runs = []
            if packed is not None:
                with suppress(ValueError):
                    runs = unpacked(packed)
        if crc is None:
            return None
        if Sums(runs).whole(size) != crc:
            runs = []  # the sum over all is in the object itself: it counts
        return _Known(size, crc, runs, _digest(digest))

    async def _compare(
        self, fd: int, known: _Known, pace: Pace, *, direct: bool = True
    ) -> tuple[tuple[int, int], ...] | None:
        """None: all is right; else the ranges that are wrong, as far as that is known."""
        promised = None if known.digest is None else hasher(known.digest.algorithm)
        runs = known.runs or list(_blocks(known.size))
        source = await trio.to_thread.run_sync(_Source, fd, direct)
        bad: list[tuple[int, int]] = []
        seen = Sums()
        try:
            for run in runs:
                crc = await trio.to_thread.run_sync(source.sum_of, run, promised)
                if crc is None or (run.crc is not None and crc != run.crc):
                    bad.append((run.start, run.stop))
                else:
                    seen.add(run._replace(crc=crc))
                await pace(run.stop - run.start)
            longer = await trio.to_thread.run_sync(source.has_more, known.size)
        finally:
            source.close()
        if bad:
            return tuple(bad)
        if longer or seen.whole(known.size) != known.crc:
            return ()
        if known.digest is not None and promised is not None and known.digest.value != promised.digest():
            return ()
        return None

    async def _check_partial(self, node: Node, pace: Pace) -> Finding:
        fd = await trio.to_thread.run_sync(self._objects.partials.open, node)
        if fd is None or self._objects.held(node) is not None:
            if fd is not None:
                os.close(fd)
            return Finding(node, State.ABSENT)
        inode = os.fstat(fd).st_ino
        try:
            runs = list(await trio.to_thread.run_sync(rows.runs, self._reader, node.id))
            source = _Source(fd, direct=False)
            read = 0
            bad = []
            for run in runs:
                bad += await trio.to_thread.run_sync(_wrong, run, source)
                read += run.stop - run.start
                await pace(run.stop - run.start)
        finally:
            os.close(fd)
        row = await trio.to_thread.run_sync(rows.get, self._reader, node.id)
        if row is None or row.inode != inode or row.sealed:
            return Finding(node, State.ABSENT)  # it was completed or replaced meanwhile
        if bad:
            return await self._remove_bad(node, read, tuple((run.start, run.stop) for run in bad))
        state = State.UNKNOWN if any(run.crc is None for run in runs) else State.GOOD
        return Finding(node, state if runs else State.ABSENT, read)

    # -- a bad one ---------------------------------------------------------------------------

    async def _remove_bad(self, node: Node, read: int, bad: tuple[tuple[int, int], ...]) -> Finding:
        where = ", ".join(f"{start:,} to {stop:,}" for start, stop in bad[:3])
        log.warning(
            "the cached object of %s is damaged%s: it is removed",
            node.name,
            f" (bytes {where})" if where else "",
        )
        removal = self._objects.removal
        if not await trio.to_thread.run_sync(removal.remove, [node]):
            # Somebody has it in use: they keep it, and nobody else gets it.
            new = await self._writer.run(partial(versions.renew, id_=node.id))
            await trio.to_thread.run_sync(partial(removal.remove, [node], in_use=True))
            await trio.to_thread.run_sync(partial(self._recalls.ask, [node.id], bad=True))
            node = new or node
        return Finding(node, State.BAD, read, bad)


def _put_verified(db: sqlite3.Connection, node: int, at: float) -> None:
    db.execute("UPDATE objects SET verified_at = ? WHERE node = ? AND sealed_at IS NOT NULL", (at, node))


def _wrong(run: Run, source: _Source) -> list[Run]:
    return list(damaged([run], source.read))


def _digest(text: str | None) -> Digest | None:
    """None also for one that cannot be computed here: the checksums have to be enough then."""
    try:
        return None if text is None else Digest.parse(text)
    except ValueError:
        return None


def _blocks(size: int) -> Iterator[Run]:
    for start in range(0, size, BLOCK):
        yield Run(start, min(size, start + BLOCK), None)


class _Source:
    """The bytes of an object, from the disk where that can be. For one thread at a time."""

    def __init__(self, fd: int, direct: bool) -> None:
        self._fd = fd
        self._direct: int | None = None
        if direct:
            # Not on every file system; then the page cache has to do.
            with suppress(OSError):
                self._direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        self._buffer = mmap.mmap(-1, PIECE) if self._direct is not None else None  # aligned to pages

    def close(self) -> None:
        if self._direct is not None:
            os.close(self._direct)

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes. A disk that fails gives none: they are as lost as wrong ones."""
        try:
            if self._direct is not None and self._buffer is not None and offset % mmap.PAGESIZE == 0:
                count = os.preadv(self._direct, [self._buffer], offset)
                return self._buffer[: min(count, size)]
            return os.pread(self._fd, size, offset)
        except OSError as exc:
            log.warning("%s", errors.of_os(exc, "read a cached object again"))
            return b""

    def sum_of(self, run: Run, promised: Hasher | None) -> int | None:
        """CRC-32C of a run; None when not all of it can be read."""
        at, crc = run.start, 0
        while at < run.stop:
            data = self.read(at, min(PIECE, run.stop - at))
            if not data:
                return None
            crc = crc32c(data, crc)
            if promised is not None:
                promised.update(data)
            at += len(data)
        return crc

    def has_more(self, size: int) -> bool:
        """Whether the file goes on behind ``size``."""
        return os.fstat(self._fd).st_size != size
