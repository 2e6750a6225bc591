"""Names after the index was made anew: what is known is found without the origin, the rest is no absence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache import Cache, Changes
from mirror.config import OpenMode
from mirror.errors import NotFound, OriginFailed, VersionChanged
from mirror.fetch import open_fetcher
from mirror.filesystem import FileSystem
from mirror.namespace import Namespace
from mirror.retry import Schedule
from tests.support.fake_remote import FakeRemote, Source

SCHEDULE = Schedule(first=0.001, longest=0.01, tries=3, deadline=10.0)
FILES = {"a": b"abc", "d/b": b"bcd", "d/e/f/c": b"cde"}


class World:
    def __init__(self, fs: FileSystem, changes: list[Changes]) -> None:
        self.fs = fs
        self.changes = changes

    async def read(self, path: str) -> bytes:
        node = self.fs.root
        for name in path.split("/"):
            node = await self.fs.lookup(node.id, name)
        await self.fs.open(node.id)
        return bytes(await self.fs.read(node.id, 0, 100))


@asynccontextmanager
async def opened(home: Path, remote: FakeRemote) -> AsyncIterator[World]:
    changes: list[Changes] = []
    async with Cache.open(home) as cache:
        root = await cache.tree.root(remote.url)
        namespace = Namespace(cache.tree, remote, root, ttl=60.0, schedule=SCHEDULE, on_change=changes.append)
        async with open_fetcher(cache.objects, remote, namespace, schedule=SCHEDULE) as fetcher:
            fs = FileSystem(namespace, fetcher, open_mode=OpenMode.AUTO, open_wait_bytes=1 << 20)
            yield World(fs, changes)


@pytest.fixture
async def lost(tmp_path: Path) -> Path:
    """A cache with all files but one, whose index is lost."""
    home = tmp_path / "cache"
    remote = FakeRemote({path: Source(data) for path, data in FILES.items()} | {"d/never": Source(b"x")})
    async with opened(home, remote) as world:
        for path, data in FILES.items():
            assert await world.read(path) == data
    (home / "index.sqlite").unlink()
    return home


def unreachable() -> FakeRemote:
    remote = FakeRemote({})
    remote.fault = OriginFailed("connection refused")
    return remote


async def test_what_is_known_is_found_without_the_origin(lost: Path) -> None:
    """At every depth, and a source is there if anything of it is."""
    remote = unreachable()
    async with opened(lost, remote) as world:
        assert "serving what is cached" in (await world.fs.namespace.check_source() or "")
        for _ in range(2):
            for path, data in FILES.items():
                assert await world.read(path) == data
        assert remote.requests < 10, "one outage, not one for each look-up"


async def test_what_is_not_known_is_an_error_and_no_absence(lost: Path) -> None:
    """So is the list of a folder: what is known of it is not all of it."""
    async with opened(lost, unreachable()) as world:
        await world.read("d/b")
        for path in ("zzz", "d/never", "d/e/zzz"):
            with pytest.raises(OriginFailed):
                await world.read(path)
        with pytest.raises(OriginFailed):
            await world.fs.list_folder(world.fs.root.id, 0, 10)


async def test_what_the_origin_says_then_counts(lost: Path) -> None:
    """Names that are gone are taken back, those that are there keep their nodes and bytes."""
    remote = FakeRemote({"a": Source(b"abc"), "d/e/f/c": Source(b"cde")})
    remote.fault = OriginFailed("connection refused")
    async with opened(lost, remote) as world:
        fs = world.fs
        a = await fs.lookup(fs.root.id, "a")
        folder = await fs.lookup(fs.root.id, "d")
        b = await fs.lookup(folder.id, "b")
        remote.fault = None
        fs.namespace.health.answered()
        assert (await fs.lookup(fs.root.id, "a")).id == a.id
        with pytest.raises(NotFound):
            await fs.lookup(folder.id, "b")
        assert [node.id for change in world.changes for node in change.removed] == [b.id]
        assert [change.added for change in world.changes] == [()]
        assert await world.read("a") == b"abc"
        assert remote.count("part") == 0


async def test_an_id_of_a_lost_index_is_stale(lost: Path) -> None:
    """The kernel then looks the name up again; it is not told that the name is gone."""
    async with opened(lost, unreachable()) as world:
        for use in (world.fs.lookup(2, "a"), world.fs.open(2), world.fs.attributes(2)):
            with pytest.raises(VersionChanged):
                await use
