"""A whole file system over a fake source, without a mount: cache, names, fetching, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cache import Cache, Changes, Node
from mirror.config import FetchMode, OpenMode
from mirror.fetch import Fetcher, open_fetcher
from mirror.filesystem import FileSystem
from mirror.namespace import Namespace
from mirror.retry import Schedule
from tests.support.data import MiB
from tests.support.fake_remote import FakeRemote

SCHEDULE = Schedule(first=0.001, longest=0.01, tries=3, deadline=10.0)


@dataclass
class World:
    """A file system over a source, with what it told the kernel."""

    remote: FakeRemote
    cache: Cache
    fs: FileSystem
    fetcher: Fetcher
    registered: list[int] = field(default_factory=list)
    changes: list[Changes] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)
    now: float = 1000.0

    async def node(self, path: str) -> Node:
        node = self.fs.root
        for name in path.split("/"):
            node = await self.fs.lookup(node.id, name)
        return node

    async def content(self, node: Node, size: int = 1 << 40, at: int = 0) -> bytes:
        return await self.fs.read(node.id, at, size)


@asynccontextmanager
async def opened(
    folder: Path,
    remote: FakeRemote,
    *,
    ttl: float = 60.0,
    open_mode: OpenMode = OpenMode.AUTO,
    wait: int = 16 * MiB,
    mode: FetchMode = FetchMode.WHOLE,
) -> AsyncIterator[World]:
    """A world over ``remote`` whose cache is ``folder``."""
    made: list[World] = []
    registered: list[int] = []
    changes: list[Changes] = []
    discarded: list[int] = []
    async with Cache.open(folder) as cache:
        root = await cache.tree.root(remote.url)
        namespace = Namespace(
            cache.tree,
            remote,
            root,
            ttl=ttl,
            schedule=SCHEDULE,
            on_change=changes.append,
            clock=lambda: made[0].now if made else 1000.0,
        )
        async with open_fetcher(
            cache.objects,
            remote,
            namespace,
            schedule=SCHEDULE,
            completed=lambda node, fd: registered.append(node.id),
            discarded=lambda node: discarded.append(node.id),
            mode=mode,
        ) as fetcher:
            fs = FileSystem(namespace, fetcher, open_mode=open_mode, open_wait_bytes=wait)
            made.append(World(remote, cache, fs, fetcher, registered, changes, discarded))
            yield made[0]
