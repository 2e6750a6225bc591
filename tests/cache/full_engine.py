"""Readers of a mirror whose disk is full at a chosen moment; run as a program in its own mount namespace.

``python -m tests.support.namespace python -m tests.cache.full_engine KIND FOLDER POINTS SEED``: at each point
a new cache on a small file system is used by several readers, and at a random call of a random function the
disk becomes full: because another process writes a file until nothing goes, because inodes are used up, or
because a quota says so. Everything that is read is compared. The cache is then closed and opened again on
the full disk, and must serve what is in it; and with room again everything can be read, and what is cached
is sound.

Prints how many reads there were, how many of them failed, and how often there was no room for a call.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from cache import Cache, Node, State, durability, eviction
from cache.limits import Amount, Limits
from cache.removal import Removed
from cache.writer import Writer
from mirror import namespace as namespace_module
from mirror.config import OpenMode
from mirror.errors import MirrorError, NoSpace, OriginFailed
from mirror.fetch import open_fetcher
from mirror.filesystem import FileSystem
from mirror.namespace import Namespace
from mirror.retry import Schedule
from tests.cache.support import content
from tests.model.system import CHECKS, Mounted
from tests.support import faults
from tests.support.fake_remote import BulkRemote, Source
from tests.support.filesystems import mount_image

KIB = 1024
SIZES = (0, 100, 4096, 50_000, 120_000, 300_000, 1_200_000, 2_500_000)
FILES = 16
SCHEDULE = Schedule(first=0.001, longest=0.01, tries=3, deadline=10.0)
SMALLEST = {"ext4": 12 * KIB * KIB, "xfs": 300 * KIB * KIB, "btrfs": 256 * KIB * KIB}
"""Bytes of a small disk; a smaller one of btrfs has no room to delete something."""
DEADLINE = 30.0
"""Seconds until a read counts as hanging."""
CALLS = {
    "pwrite": 40,
    "open": 200,
    "write": 20,
    "rename": 12,
    "fdatasync": 8,
    "setxattr": 10,
    "fsync": 12,
    "unlink": 12,
    "commit": 30,
}
"""Functions at whose calls the disk becomes full, and at which of them at most."""


_beforehand: list[Callable[[str, int], int]] = []
"""Asked before each call of `faults.FUNCTIONS`: given it and what it takes, they return an errno, or 0."""


def _shown(function: str, takes: int, done: bool) -> int:
    return 0 if done else next(filter(None, (asked(function, takes) for asked in list(_beforehand))), 0)


class Disk:
    """A small file system that can be made full."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.image = folder.parent / "image"
        self.full = 0
        """Calls that failed by a quota."""
        self._quota = False
        self._credit = self._names = 0

    def make(self) -> None:
        mount = ["mount", "-t", "tmpfs", "tmpfs", self.folder, "-o"]
        if self.kind in SMALLEST:
            mount_image(self.kind, self.image, SMALLEST[self.kind], self.folder)
        elif self.kind == "inodes":
            subprocess.run([*mount, "size=64m,mode=700,nr_inodes=150"], check=True)
        else:
            subprocess.run([*mount, "size=8m,mode=700"], check=True)

    def unmake(self) -> None:
        subprocess.run(["umount", self.folder], check=True)

    def fill(self) -> None:
        """Another process uses up all there is; or a quota ends."""
        if self.kind == "quota":
            self._quota = True
        elif self.kind == "inodes":
            with suppress(OSError):
                for number in range(10_000):
                    (self.folder / f"ballast{number}").touch()
        else:
            with suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as file:
                for size in (KIB * KIB, 4096, 1):
                    with suppress(OSError):
                        while True:
                            file.write(b"x" * size)

    def free(self) -> None:
        self._quota = False
        self._credit = self._names = 0
        for path in self.folder.glob("ballast*"):
            path.unlink()

    def watch_quota(self) -> None:
        """Let calls that take room fail while there is none; what is unlinked gives some back."""
        real_unlink = os.unlink

        def unlink(path: Any, **more: Any) -> None:
            status = os.lstat(path)
            real_unlink(path, **more)
            if self._quota:
                self._credit += status.st_blocks * 512
                self._names += 1

        os.unlink = unlink  # type: ignore[assignment]

        def refused(function: str, takes: int) -> int:
            what = "_names" if function == "open" else "_credit"
            if self._quota and takes > getattr(self, what):
                self.full += 1
                return errno.EDQUOT
            if self._quota:
                setattr(self, what, getattr(self, what) - takes)
            return 0

        def limited(name: str, takes: Callable[..., int], what: str) -> None:
            real = getattr(os, name)

            def call(*args: Any, **more: Any) -> Any:
                taken = takes(*args) if self._quota else 0
                if taken > getattr(self, what):
                    self.full += 1
                    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
                setattr(self, what, getattr(self, what) - taken)
                return real(*args, **more)

            setattr(os, name, call)

        limited("posix_fallocate", lambda _, __, size: size, "_credit")
        _beforehand.append(refused)
        transaction = Writer._transaction

        def writes(writer: Writer, batch: Any) -> Any:
            # As for a quota on the index: it may not have one page more than it has.
            full = self._quota and self._credit < 100_000
            pages = writer._connection.execute("PRAGMA page_count").fetchone()[0] if full else 1 << 30
            writer._connection.execute(f"PRAGMA max_page_count = {pages}")
            return transaction(writer, batch)

        Writer._transaction = writes  # type: ignore[method-assign]


def at_call(function: str, number: int, action: Callable[[], None]) -> Callable[[], None]:
    """Have ``action`` done right before a call of a function; returns what takes that back."""
    holder: Any = Writer if function == "commit" else os
    name = "_commit" if function == "commit" else function
    calls = 0

    def before(called: str, _takes: int) -> int:
        nonlocal calls
        calls += called == function
        if called == function and calls == number:
            action()
        return 0

    if function in faults.FUNCTIONS:
        _beforehand.insert(0, before)
        return lambda: _beforehand.remove(before)
    real = getattr(holder, name)

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            action()
        return real(*args, **more)

    setattr(holder, name, counted)
    return lambda: setattr(holder, name, real)


class Readers:
    """What is read at one point, and what came of it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.sizes = {f"{n:02}": chance.choice(SIZES) for n in range(FILES)}
        files = {
            name: Source(content(int(name), 0, size), f'etag:"{name}"') for name, size in self.sizes.items()
        }
        self.remote = BulkRemote(files, chunk=64 * KIB)
        self.reads = self.failed = 0

    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[tuple[Cache, FileSystem]]:
        async with Cache.open(home) as cache:
            root = await cache.tree.root(self.remote.url)
            namespace = Namespace(cache.tree, self.remote, root, ttl=3600.0, schedule=SCHEDULE)
            mounted = Mounted(cache.objects)
            async with open_fetcher(
                cache.objects,
                self.remote,
                namespace,
                schedule=SCHEDULE,
                completed=mounted.register,
                delivery=mounted,
            ) as fetcher:
                yield cache, FileSystem(namespace, fetcher, open_mode=OpenMode.AUTO, open_wait_bytes=200_000)

    async def read(self, fs: FileSystem, name: str) -> None:
        """Read a file in pieces, and compare; raises what the mirror raises."""
        node = await fs.lookup(fs.root.id, name)
        await fs.open(node.id)
        size = self.sizes[name]
        step = self.chance.choice((size + 1, 128 * KIB, 500_000))
        for at in range(0, size + 1, step):
            right = content(int(name), at, min(size, at + step))
            assert await fs.read(node.id, at, step) == right, f"wrong bytes in {name} at {at}"

    async def tried(self, fs: FileSystem, name: str) -> MirrorError | None:
        """The same; the error if there was one. Anything but a clean error, or too late, is a failure."""
        self.reads += 1
        try:
            with trio.fail_after(DEADLINE):
                await self.read(fs, name)
        except MirrorError as exc:
            self.failed += 1
            return exc
        return None

    async def some(self, fs: FileSystem, count: int) -> None:
        for _ in range(count):
            await self.tried(fs, self.chance.choice(list(self.sizes)))

    async def all_at_once(self, fs: FileSystem) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(self.some, fs, 8)


async def one_point(disk: Disk, chance: random.Random, *, limited: bool) -> tuple[int, int]:
    readers = Readers(chance)
    home = disk.folder / "cache"
    async with readers.opened(home) as (cache, fs):
        size = Amount(bytes=3 * KIB * KIB) if limited else None
        await cache.space.set_limits(Limits(size, Amount(bytes=0)))
        function = chance.choice(list(CALLS))
        undo = at_call(function, chance.randint(1, CALLS[function]), disk.fill)
        await readers.all_at_once(fs)
        undo()
        disk.fill()
        await readers.all_at_once(fs)
        if chance.random() < 0.5:
            # For a moment there is room, and then there is none.
            disk.free()
            await readers.some(fs, 4)
            disk.fill()
            await readers.some(fs, 8)
    # Nothing but what is cached can be read now, and all of that.
    readers.remote.fault = OriginFailed("away")
    async with readers.opened(home) as (cache, fs):
        evicted = evictions(cache)
        await trio.to_thread.run_sync(disk.fill)
        for name in readers.sizes:
            known = cache.tree.child(fs.root.id, name)
            fd = None if known is None else cache.objects.open_complete(known)
            whole = fd is not None
            if fd is not None:
                os.close(fd)
            error = await readers.tried(fs, name)
            gone = known is not None and known.id in evicted  # for a neighbour
            assert error is None or not whole or gone, f"{name} is cached, and gave {error!r}"
        readers.remote.fault = None
        await readers.all_at_once(fs)
        disk.free()
        if chance.random() < 0.5:
            await check(readers, cache, fs, home)
    async with readers.opened(home) as (cache, fs):
        await check(readers, cache, fs, home)
    return readers.reads, readers.failed


def evictions(cache: Cache) -> set[int]:
    """The nodes whose objects are evicted from now on: those that went, and those that are being tried.

    What the cache counts itself comes later, and not at all where the disk has no room to note it.
    """
    found: set[int] = set()
    removal = cache.objects.removal
    real = removal.remove

    def remove(nodes: Sequence[Node], *, in_use: bool = False, ghosts: bool = False) -> list[Removed]:
        asked = {node.id for node in nodes} if ghosts else set()
        found.update(asked)
        removed = real(nodes, in_use=in_use, ghosts=ghosts)
        found.difference_update(asked - {each.node for each in removed})
        return removed

    removal.remove = remove  # type: ignore[method-assign]
    return found


async def check(readers: Readers, cache: Cache, fs: FileSystem, home: Path) -> None:
    """With room everything can be read, and all that is cached is what came."""
    for name in readers.sizes:
        error = await readers.tried(fs, name)
        assert error is None or isinstance(error, NoSpace), f"{name}: {error!r}"
        assert error is None, f"there is room, and {name} gave {error!r}"
    await cache.objects.sync()
    for node in cache.tree.children(fs.root.id):
        finding = await cache.verification.check(node)
        assert finding.state in (State.GOOD, State.UNKNOWN, State.ABSENT), f"{node.name}: {finding}"
    reader = cache.tree._reader
    for what, sql in CHECKS.items():
        assert not reader.all(sql), what
    await cache.objects.sync()
    room = cache.space.room()
    on_disk = sum(path.stat().st_blocks * 512 for path in home.glob("objects/*/*"))
    assert on_disk <= room.occupied + room.claimed, f"{on_disk} on disk, counted {room}"


def main() -> None:
    kind, top, points, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    logging.basicConfig(level=logging.CRITICAL)
    eviction.POLL_SECONDS = 0.01
    durability.GATHER_SECONDS = durability.CHECKPOINT_SECONDS = 0.01
    namespace_module.REVALIDATION = Schedule(first=0.001, longest=0.01, tries=2, deadline=5.0)
    folder = top / "disk"
    folder.mkdir(exist_ok=True)
    faults.hook(_shown)
    disk = Disk(kind, folder)
    if kind == "quota":
        disk.watch_quota()
    reads = failed = 0
    only = int(sys.argv[5]) if len(sys.argv) > 5 else None
    for point in range(points) if only is None else [only]:
        disk.make()
        try:
            chance = random.Random(f"{kind} {seed} {point}")
            now, errors = trio.run(partial(one_point, disk, chance, limited=point % 2 == 1))
        except BaseException:
            print(f"point {point} of {kind}, seed {seed}", file=sys.stderr)
            raise
        reads, failed = reads + now, failed + errors
        disk.free()
        # SQLite keeps a connection that failed until Python has collected its statements.
        gc.collect()
        left = [fd for fd in Path("/proc/self/fd").iterdir() if str(fd.resolve()).startswith(str(folder))]
        assert not left, f"left open: {left}"
        disk.unmake()
    print(reads, failed, disk.full)


if __name__ == "__main__":
    faults.begin_anew("tests.cache.full_engine")
    main()
