"""A listing of many pages goes into the index as it comes, and ends as if it had come at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cache import Cache, Changes, Entry, Kind
from cache.news import KEPT, ONE_BY_ONE
from cache.parts import Part
from mirror.errors import NotFound, OriginFailed, Transient
from mirror.namespace import Namespace
from mirror.remotes.base import Page
from mirror.retry import Schedule
from tests.support.fake_store import PagedStore

QUICK = Schedule(first=0.001, longest=0.001, tries=2, deadline=5.0)


@dataclass
class Rows(PagedStore):
    """One folder, with rows in the order that a test wants, and a failure before some page."""

    rows: list[Entry] = field(default_factory=list)
    fail_at: int | None = None
    fault_at: type[OriginFailed] = Transient

    async def pages(self, path: str, cursor: str | None = None) -> AsyncIterator[Page]:
        number = int(cursor or 0)
        self.folders.append(f"{path}@{number}")
        while True:
            if self.fail_at == number:
                self.fail_at = None
                raise self.fault_at("broken")
            rows = self.rows[number : number + self.page]
            number += self.page
            cursor = str(number) if number < len(self.rows) else None
            yield Page([(entry.name, entry) for entry in rows], cursor)
            if cursor is None:
                return
            await self.gate.wait()


def file(name: str, size: int = 1) -> Entry:
    return Entry(name, Kind.FILE, size)


@dataclass
class World:
    cache: Cache
    namespace: Namespace
    remote: Rows
    now: list[float]
    changes: list[Changes]

    @property
    def root(self) -> int:
        return self.namespace.root.id

    def names(self) -> dict[str, str]:
        return {node.name: node.kind.name for node in self.namespace.children(self.root, limit=-1)}

    async def list(self) -> None:
        self.now[0] += 100
        await self.namespace.listed(self.root)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    remote = Rows(rows=[file(f"{number:02}") for number in range(10)])
    now = [1_000_000.0]
    changes: list[Changes] = []
    monkeypatch.setattr("cache.tree.time.time", lambda: now[0])
    async with Cache.open(tmp_path / "cache") as cache:
        root = await cache.tree.root(remote.url)
        namespace = Namespace(
            cache.tree, remote, root, ttl=50.0, schedule=QUICK, on_change=changes.append, clock=lambda: now[0]
        )
        yield World(cache, namespace, remote, now, changes)


async def test_all_pages_are_the_folder(world: World) -> None:
    """Nothing is told of a folder that was never listed; later listings tell what is new, another or gone."""
    await world.list()
    assert sorted(world.names()) == [f"{number:02}" for number in range(10)]
    assert not world.changes
    world.remote.rows = [file("00", 2), *(file(f"{number:02}") for number in range(3, 12))]
    await world.list()
    assert sorted(world.names()) == ["00", *(f"{number:02}" for number in range(3, 12))]
    told = [
        sorted(node.name for changes in world.changes for node in changes.added),
        [old.name for changes in world.changes for old, _ in changes.changed],
        [node.name for changes in world.changes for node in changes.removed],
    ]
    assert told == [["10", "11"], ["00"], ["01", "02"]]
    node = world.namespace.node(world.root)
    assert node.listed_at == world.now[0]


@pytest.mark.parametrize("first", [True, False])
async def test_of_a_file_and_a_folder_on_two_pages_the_folder_counts(world: World, first: bool) -> None:
    """Whichever comes first; and when the folder is gone, the file is there."""
    both = [file("both"), *(file(f"{number:02}") for number in range(5)), Entry("both", Kind.FOLDER)]
    for _ in range(2):
        world.remote.rows = both if first else both[::-1]
        await world.list()
        assert world.names()["both"] == "FOLDER"
    world.remote.rows = both[:-1]
    await world.list()
    assert world.names()["both"] == "FILE"


async def test_a_clock_that_is_set_back_meanwhile_takes_nothing_away(world: World) -> None:
    """Neither from a folder that is new, nor from one that was listed before."""
    put_part = world.cache.tree.put_part

    async def set_back(folder: int, entries: Sequence[Entry], at: float) -> Part:
        part = await put_part(folder, entries, at)
        world.now[0] -= 1000
        return part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.cache.tree, "put_part", set_back)
        for _ in range(2):
            world.now[0] += 100_000
            await world.namespace.relist(world.root)
            assert sorted(world.names()) == [f"{number:02}" for number in range(10)]


async def test_of_files_of_one_name_on_two_pages_the_first_counts(world: World) -> None:
    """In each listing anew: what was used while it went on is what stands there in the end."""
    for number in (1, 2):
        first, second = file("twice", 10 * number), file("twice", 10 * number + 1)
        world.remote.rows = [first, *(file(f"{number:02}") for number in range(5)), second]
        await world.list()
        node = world.cache.tree.child(world.root, "twice")
        assert node is not None
        assert node.size == 10 * number


async def test_what_was_asked_about_since_a_listing_began_counts(world: World) -> None:
    world.remote.rows = [*(file(f"{number:02}") for number in range(5)), file("asked", 1)]
    put_part = world.cache.tree.put_part

    async def asked(folder: int, entries: Sequence[Entry], at: float) -> Part:
        if all(entry.name != "asked" for entry in entries):
            await world.cache.tree.put_entry(folder, file("asked", 2), at)
        return await put_part(folder, entries, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.cache.tree, "put_part", asked)
        await world.list()
    node = world.cache.tree.child(world.root, "asked")
    assert node is not None
    assert node.size == 2


async def test_a_listing_goes_on_behind_the_page_that_failed(world: World) -> None:
    world.remote.fail_at = 6
    await world.list()
    assert world.remote.folders == ["@0", "@6"]
    assert len(world.names()) == 10


async def test_a_listing_that_breaks_off_takes_nothing_away(world: World) -> None:
    """What came is known; what did not come stands, and the folder is as old as it was."""
    await world.list()
    listed_at = world.namespace.node(world.root).listed_at
    world.remote.rows = [file("new"), *(file(f"{number:02}") for number in range(5, 12))]
    world.remote.fail_at, world.remote.fault_at = 3, OriginFailed
    with pytest.raises(OriginFailed):
        await world.namespace.relist(world.root)
    assert set(world.names()) == {"new", *(f"{number:02}" for number in range(10))}
    assert world.namespace.node(world.root).listed_at == listed_at


async def test_checking_a_source_takes_one_page_of_a_large_root(world: World) -> None:
    assert await world.namespace.check_source() is None
    assert world.namespace.node(world.root).listed_at is None
    assert world.remote.folders == ["@0"]
    world.remote.rows = [file("only")]
    assert await world.namespace.check_source() is None
    assert world.names() == {"only": "FILE"}
    with pytest.raises(NotFound):
        await world.namespace.lookup(world.root, "nothing")


# -- what others are told --------------------------------------------------------------------


async def test_news_are_of_others_and_in_order(tmp_path: Path) -> None:
    """Each change once; of very many in one folder only that it changed; a gap shows."""
    async with Cache.open(tmp_path / "cache") as one, Cache.open(tmp_path / "cache") as other:
        root = (await one.tree.root("http://origin.test/")).id
        entries = [file(f"{number:04}") for number in range(ONE_BY_ONE + 10)]
        await one.tree.put_listing(root, entries[:3], validator=None, at=1.0)
        assert not other.news.new(), "nothing was told of a folder that was never listed"
        await one.tree.put_listing(root, [file("0000", 9), *entries[2:4]], validator=None, at=2.0)
        told = other.news.new()
        names = [(node.name, node.current) for node in map(other.tree.node, told.nodes) if node is not None]
        assert names == [("0003", True), ("0000", False), ("0001", False)]
        assert (told.folders, told.missed) == ((), False)
        assert not other.news.new()
        assert not one.news.new(), "what one says itself is no news"
        gone = one.tree.child(root, "0002")
        assert gone is not None
        await one.tree.remove(gone.id)
        await one.tree.put_entry(root, file("0003", 5), 3.0)
        assert len(other.news.new().nodes) == 2
        await one.tree.put_listing(root, entries, validator=None, at=4.0)
        assert other.news.new().folders == (root,)
        for at in range(KEPT // ONE_BY_ONE + 2):
            some = [file(entry.name, at + 10) for entry in entries[:ONE_BY_ONE]]
            await one.tree.put_listing(root, [*some, *entries[ONE_BY_ONE:]], validator=None, at=5.0 + at)
        assert other.news.new().missed
        other.news.rewind()
        await one.tree.put_entry(root, file("last"), 99.0)
        assert len(other.news.new().nodes) > KEPT // 2
