"""What nobody can use any more is removed, and nothing else; objects are evicted by name."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cache import Cache, CacheError, Entry, Kind, Node
from cache.collect import FORGET_AFTER, collect, index_size
from cache.limits import Amount, Limits
from cache.patterns import Patterns
from cache.removal import Stays
from cache.serving import serving, unserved
from tests.cache.support import complete, file, files, fill, write

LATER = time.time() + 2 * FORGET_AFTER
"""Listings of these tests are of the year 1970."""


async def superseded(cache: Cache, name: str = "a") -> tuple[Node, Node]:
    """A complete file of which the origin has another version now: old node and new."""
    (old,) = await files(cache, file(name))
    complete(cache, old)
    await cache.objects.sync()
    (new,) = await files(cache, file(name, 2000))
    complete(cache, new)
    await cache.objects.sync()
    return replace(old, current=False), new


async def test_objects_of_superseded_versions_are_removed(cache: Cache) -> None:
    old, new = await superseded(cache)
    foreseen = await collect(cache, mounted=False, dry_run=True)
    assert (foreseen.superseded, foreseen.in_use) == (1, 0)
    assert cache.objects.state(old).complete
    got = await collect(cache, mounted=False)
    assert (got.superseded, got.superseded_bytes) == (1, foreseen.superseded_bytes)
    assert not cache.objects.state(old).complete
    assert cache.objects.state(new).complete
    assert cache.space.room().claimed == 0
    assert (await collect(cache, mounted=False)).freed == 0


async def test_a_superseded_version_that_is_open_stays(cache: Cache) -> None:
    old, _ = await superseded(cache)
    fd = cache.objects.open_complete(old)
    assert fd is not None
    try:
        assert cache.objects.removal.why_it_stays(old) is Stays.IN_USE
        assert (await collect(cache, mounted=False, dry_run=True)).in_use == 1
        got = await collect(cache, mounted=False)
        assert (got.superseded, got.in_use) == (0, 1)
        assert cache.objects.state(old).complete
    finally:
        os.close(fd)
    assert (await collect(cache, mounted=False)).superseded == 1


async def test_names_of_versions_long_past_are_forgotten_while_nobody_serves(cache: Cache) -> None:
    """A kernel may remember every node that it was told of; an id is never used again."""
    old, new = await superseded(cache)
    assert (await collect(cache, mounted=False, now=10.0)).nodes == 0  # not long past
    with serving(cache.path):
        assert (await collect(cache, mounted=False, now=LATER)).nodes is None
    assert (await collect(cache, mounted=True, now=LATER)).nodes is None
    assert (await collect(cache, mounted=False, dry_run=True, now=LATER)).nodes == 1
    assert cache.tree.node(old.id) is not None
    assert (await collect(cache, mounted=False, now=LATER)).nodes == 1
    assert cache.tree.node(old.id) is None
    (again,) = await files(cache, file("a"))
    assert again.id > new.id
    assert again.entry == old.entry  # the place in the folder stays


async def test_a_past_folder_is_forgotten_after_what_is_in_it(cache: Cache) -> None:
    root = await cache.tree.root("http://origin.test/data/")
    await cache.tree.put_listing(root.id, [Entry("d", Kind.FOLDER)], validator=None, at=1.0)
    folder = cache.tree.child(root.id, "d")
    assert folder is not None
    await cache.tree.put_listing(folder.id, [file("x"), file("y")], validator=None, at=1.0)
    await cache.tree.remove(folder.id)
    assert (await collect(cache, mounted=False, now=LATER)).nodes == 3
    assert cache.tree.node(folder.id) is None
    assert cache.tree.node(root.id) is not None


async def test_stale_notes_go(cache: Cache) -> None:
    old, new = await superseded(cache)
    cache.recalls.ask([new.id])
    await cache.objects.eviction.evict([old])  # remembered as a ghost
    got = await collect(cache, mounted=False, now=LATER)
    assert (got.recalls, got.ghosts, got.nodes) == (1, 1, 1)


async def test_the_log_of_the_index_is_written_back(cache: Cache, home: Path) -> None:
    await superseded(cache)
    wal = home / "index.sqlite-wal"
    assert wal.stat().st_size > 0
    await collect(cache, mounted=False)
    assert wal.stat().st_size == 0
    assert index_size(home) >= (home / "index.sqlite").stat().st_size


def test_who_serves_is_seen_by_others(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    with unserved(tmp_path) as nobody:
        assert nobody
    with serving(tmp_path), serving(tmp_path), unserved(tmp_path) as nobody:
        assert not nobody
    with pytest.raises(CacheError), serving(tmp_path / "none"):
        pass


async def test_eviction_by_name_takes_what_nobody_has(cache: Cache) -> None:
    """What is open or being filled stays, until it is let go of."""
    free, opened, filled = await files(cache, file("free"), file("opened"), file("filled"))
    complete(cache, free)
    complete(cache, opened)
    filler = fill(cache, filled)
    write(filler, 0, 500)
    await cache.objects.sync()
    fd = cache.objects.open_complete(opened)
    assert fd is not None
    eviction, why = cache.objects.eviction, cache.objects.removal.why_it_stays
    assert [why(node) for node in (free, opened, filled)] == [None, Stays.IN_USE, Stays.FILLED]
    assert [each.node for each in await eviction.evict([free, opened, filled], rounds=2)] == [free.id]
    # Others were asked to let go of the rest.
    assert {recall.node for recall in cache.recalls.new()} == {opened.id, filled.id}
    os.close(fd)
    filler.close()
    await cache.objects.sync()
    assert {each.node for each in await eviction.evict([opened, filled])} == {opened.id, filled.id}


async def test_shrinking_evicts_down_to_a_lowered_limit(cache: Cache) -> None:
    nodes = await files(cache, *(file(str(number), 100_000) for number in range(10)))
    for node in nodes:
        complete(cache, node)
    await cache.objects.sync()
    root = nodes[0].source
    await cache.pins.add(root, ["0"])
    assert await cache.objects.shrink() == 0
    limit = 300_000
    await cache.space.set_limits(Limits(Amount(bytes=limit), Amount(bytes=0)))
    assert cache.space.room().left < 0
    assert await cache.objects.shrink() > 0
    room = cache.space.room()
    assert room.left >= 0
    assert room.occupied <= limit
    assert cache.objects.state(nodes[0]).complete


async def test_shrinking_stops_where_nothing_may_go(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 100_000))
    complete(cache, node)
    await cache.objects.sync()
    await cache.pins.add(node.source, ["a"])
    await cache.space.set_limits(Limits(Amount(bytes=1000), Amount(bytes=0)))
    assert await cache.objects.shrink() == 0
    assert cache.objects.state(node).complete


async def test_what_is_spared_is_not_evicted_meanwhile(cache: Cache) -> None:
    """A run over many files spares what it has fetched; afterwards it is like any other."""
    nodes = await files(cache, *(file(f"{number}.bin", 100_000) for number in range(4)))
    for node in nodes:
        complete(cache, node)
    await cache.objects.sync()
    async with cache.pins.sparing(nodes[0].source, Patterns(["[012].bin"])):
        await cache.objects.free(1 << 40)
        assert [cache.objects.state(node).complete for node in nodes] == [True, True, True, False]
    await cache.objects.free(1 << 40)
    assert not any(cache.objects.state(node).complete for node in nodes)


async def test_what_was_freed_for_a_file_is_counted_for_it(cache: Cache) -> None:
    """No more is evicted than what is missing, though the room that is left is not enough for the file."""
    old, other, new = await files(cache, file("old", 100_000), file("other", 100_000), file("new", 150_000))
    complete(cache, old)
    complete(cache, other)
    await cache.objects.sync()
    occupied = cache.space.room().occupied
    await cache.space.set_limits(Limits(Amount(bytes=occupied + 100_000), Amount(bytes=0)))
    filler = fill(cache, new)
    await cache.objects.reserve(filler, 150_000)
    assert [cache.objects.state(node).complete for node in (old, other)] == [False, True]
    filler.discard()
