"""Every bit that changes after it came is found, and what is bad is given to nobody."""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cache import Cache, Node, State
from cache.sums import BLOCK
from tests.cache.support import complete, content, file, files, fill, read_all, write
from tests.support.data import flip

SIZE = 100_000


def object_of(home: Path, node: Node) -> Path:
    digits = node.key.hex()
    return home / "objects" / digits[:2] / digits


@pytest.fixture
def expected_warnings() -> list[str]:
    return ["the cached object of ", "a has no checksums"]


async def test_what_is_as_it_came_is_good(cache: Cache, home: Path) -> None:
    sizes = (0, 1, SIZE, 3 * BLOCK + 5)
    nodes = await files(cache, *(file(f"{size}", size) for size in sizes))
    for node in nodes:
        complete(cache, node)
        assert (await cache.verification.check(node)).state is State.GOOD  # also before it is sealed
    await cache.objects.sync()
    for node in nodes:
        found = await cache.verification.check(node)
        assert (found.state, found.bytes_read) == (State.GOOD, node.size)
    with closing(sqlite3.connect(home / "index.sqlite")) as db:
        [(without,)] = db.execute("SELECT count(*) FROM objects WHERE verified_at IS NULL")
    assert without == 0


async def test_parts_in_any_order_make_one_sum(cache: Cache) -> None:
    size = 2 * BLOCK + 1000
    (node,) = await files(cache, file("a", size))
    filler = fill(cache, node)
    for start, stop in ((BLOCK, size), (5000, BLOCK), (0, 5000)):
        write(filler, start, stop)
    os.close(filler.complete())
    await cache.objects.sync()
    assert (await cache.verification.check(node)).state is State.GOOD


@pytest.mark.parametrize("seed", range(10))
async def test_one_flipped_bit_is_found_where_it_is(cache: Cache, home: Path, seed: int) -> None:
    chance = random.Random(seed)
    size = 2 * BLOCK + 1000
    (node,) = await files(cache, file("a", size))
    complete(cache, node)
    await cache.objects.sync()
    at = chance.randrange(size)
    flip(object_of(home, node), at, chance.randrange(8))
    found = await cache.verification.check(node)
    assert found.state is State.BAD
    [(start, stop)] = found.damaged
    assert start <= at < stop <= start + BLOCK
    assert cache.objects.open_complete(node) is None
    assert found.node == node, "nobody had it: the same node goes on"
    complete(cache, node)
    await cache.objects.sync()
    assert (await cache.verification.check(node)).state is State.GOOD


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, SIZE - 1),
        lambda path: os.truncate(path, SIZE + 1),
        lambda path: path.write_bytes(b"x" * SIZE),
        lambda path: path.unlink(),
        lambda path: path.chmod(0o666),
    ],
    ids=["shorter", "longer", "other bytes", "gone", "writable for others"],
)
async def test_a_file_that_is_another_one_is_found(
    cache: Cache, home: Path, harm: Callable[[Path], None]
) -> None:
    (node,) = await files(cache, file("a", SIZE))
    complete(cache, node)
    await cache.objects.sync()
    harm(object_of(home, node))
    assert (await cache.verification.check(node)).state is State.BAD
    assert cache.objects.open_complete(node) is None


async def test_a_bad_object_in_use_is_kept_by_who_has_it_and_given_to_nobody_else(
    cache: Cache, home: Path
) -> None:
    (node,) = await files(cache, file("a", SIZE))
    complete(cache, node)
    await cache.objects.sync()
    fd = cache.objects.open_complete(node)
    assert fd is not None
    flip(object_of(home, node), 7)
    found = await cache.verification.check(node)
    assert found.state is State.BAD
    new = cache.tree.child(node.parent, node.name)
    assert new is not None
    assert found.node == new
    assert (new.id != node.id, new.entry, new.size, new.key != node.key) == (True, node.entry, SIZE, True)
    assert [(recall.node, recall.bad) for recall in cache.recalls.new()] == [(node.id, True)]
    assert cache.recalls.new() == []
    assert cache.objects.open_complete(node) is None
    complete(cache, new)
    assert len(read_all(fd)) == SIZE
    assert read_all(cache.objects.open_complete(new)) == content(new.id, 0, SIZE)


async def test_what_is_about_to_be_given_out_is_read_through_the_same_descriptor(
    cache: Cache, home: Path
) -> None:
    (node,) = await files(cache, file("a", SIZE))
    filler = fill(cache, node)
    write(filler, 0, SIZE)
    fd = filler.complete()
    assert await cache.verification.intact(node, fd)
    os.close(fd)
    await cache.objects.sync()
    fd = cache.objects.open_complete(node)
    assert fd is not None
    assert await cache.verification.intact(node, fd)
    # Another file takes the name: the descriptor still is of the one that was opened.
    flip(object_of(home, node), 50)
    assert not await cache.verification.intact(node, fd)
    assert cache.objects.open_complete(node) is None


async def test_a_partial_object_is_checked_too(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", SIZE))
    filler = fill(cache, node)
    write(filler, 10_000, 50_000)
    assert (await cache.verification.check(node)).state is State.ABSENT, "it is being filled"
    filler.close()
    await cache.objects.sync()
    assert (await cache.verification.check(node)).state is State.GOOD
    flip(object_of(home, node).with_suffix(".part"), 20_000)
    assert (await cache.verification.check(node)).state is State.BAD
    assert not cache.objects.state(node).extents


async def test_what_came_before_there_were_checksums_is_unknown(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", SIZE))
    complete(cache, node)
    await cache.objects.sync()
    with closing(sqlite3.connect(home / "index.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE objects SET crc = NULL, sums = NULL")
    assert (await cache.verification.check(node)).state is State.UNKNOWN
    fd = cache.objects.open_complete(node)
    assert fd is not None
    assert not await cache.verification.intact(node, fd), "who wants to be sure fetches it again"


async def test_the_sum_in_the_object_itself_is_as_good(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", SIZE))
    complete(cache, node)
    await cache.objects.sync()
    with closing(sqlite3.connect(home / "index.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM objects")
    assert cache.objects.state(node).complete, "taken over by its identity"
    assert (await cache.verification.check(node)).state is State.GOOD
    flip(object_of(home, node), 99)
    assert (await cache.verification.check(node)).state is State.BAD


async def test_the_scrub_takes_what_nobody_looked_at_for_the_longest_time(cache: Cache, home: Path) -> None:
    nodes = await files(cache, file("a", 10), file("b", 10), file("c", 10))
    for node in nodes:
        complete(cache, node)
    await cache.objects.sync()
    with closing(sqlite3.connect(home / "index.sqlite", isolation_level=None)) as db:
        for node, at in zip(nodes, (30.0, 10.0, 20.0), strict=True):
            db.execute("UPDATE objects SET verified_at = ? WHERE node = ?", (at, node.id))
    order = []
    while (due := await cache.verification.due(1000.0)) is not None:
        order.append(due.name)
        await cache.verification.check(due)
    assert order == ["b", "c", "a"]


async def test_a_thousand_rotten_bits_are_a_thousand_findings() -> None:
    """One flipped bit in each of 1,000 objects: all are found."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        home = Path(folder) / "cache"
        chance = random.Random(1)
        async with Cache.open(home) as cache:
            nodes = await files(cache, *(file(f"{n}", chance.randrange(1, 20_000)) for n in range(1000)))
            for node in nodes:
                complete(cache, node)
        for node in nodes:
            assert node.size is not None
            flip(object_of(home, node), chance.randrange(node.size), chance.randrange(8))
        async with Cache.open(home) as cache:
            found = [(await cache.verification.check(node)).state for node in nodes]
        assert found == [State.BAD] * 1000
