"""The cache is never over its limits, whoever fills it, and room is made for what is wanted now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from cache import Cache, CacheFull, Node, _files
from cache import space as space_module
from cache.limits import Amount, Disk, Limits, room
from cache.space import footprint
from tests.cache.support import complete, content, file, files, fill, read_all, write
from tests.cache.test_processes import other

KIB = 1024
SIZE = 40 * KIB


def on_disk(home: Path) -> int:
    """Bytes that all objects take, as ``du`` counts them."""
    return sum(path.stat().st_blocks * 512 for path in home.glob("objects/*/*"))


async def limit(cache: Cache, size: int) -> None:
    await cache.space.set_limits(Limits(Amount(bytes=size), Amount(bytes=0)))


async def fetch(cache: Cache, node: Node) -> None:
    """Fetch a file as the fetcher does: room first."""
    filler = fill(cache, node)
    assert node.size is not None
    try:
        await cache.objects.reserve(filler, node.size)
    except CacheFull:
        filler.discard()
        raise
    write(filler, 0, node.size)
    os.close(filler.complete())


async def here(cache: Cache, nodes: Sequence[Node]) -> list[str]:
    await cache.objects.sync()
    return [node.name for node in nodes if cache.objects.state(node).complete]


def test_a_limit_is_bytes_or_a_share_of_the_disk() -> None:
    disk = Disk(total=1000, free=600)
    assert Amount.parse("20%").of(1000) == 200
    assert str(Amount.parse("12.5%")) == "12.5%"
    assert str(Amount.parse("123")) == "123"
    for bad in ("-1", "101%", "x", "%"):
        with pytest.raises(ValueError, match=r"."):
            Amount.parse(bad)
    now = room(Limits(Amount(bytes=300), Amount(bytes=0)), disk, occupied=100, claimed=50)
    assert (now.left, now.capacity, now.disk_is_short) == (150, 300, False)
    now = room(Limits(Amount(percent=90), Amount(percent=50)), disk, occupied=100, claimed=50)
    assert (now.left, now.disk_is_short) == (600 - 500 - 50, True)
    assert room(Limits(), disk, occupied=0, claimed=0).left == 600 - 50


async def test_limits_are_kept_with_the_cache(home: Path) -> None:
    async with Cache.open(home) as cache:
        await cache.space.set_limits(Limits(cache_size=Amount(bytes=10**6)))
        await cache.space.set_limits(Limits(min_free=Amount(percent=3)))
    async with Cache.open(home) as cache:
        assert cache.space.limits() == Limits(Amount(bytes=10**6), Amount(percent=3))
        await cache.space.unset_cache_size()
        assert cache.space.limits().cache_size is None


async def test_what_is_not_used_any_more_makes_room(cache: Cache, home: Path) -> None:
    await limit(cache, 10 * footprint(SIZE))
    nodes = await files(cache, *(file(f"{n:02}", SIZE) for n in range(40)))
    for node in nodes:
        await fetch(cache, node)
        assert on_disk(home) <= 10 * footprint(SIZE)
    there = await here(cache, nodes)
    assert 6 <= len(there) <= 10
    assert nodes[-1].name in there
    assert cache.objects.eviction.evicted == 40 - len(there)
    for node in nodes:
        if node.name in there:
            assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, SIZE)


async def test_what_will_never_fit_evicts_nothing(cache: Cache) -> None:
    await limit(cache, 5 * footprint(SIZE))
    nodes = await files(cache, file("a", SIZE), file("b", SIZE), file("huge", 10 * SIZE))
    await fetch(cache, nodes[0])
    await fetch(cache, nodes[1])
    with pytest.raises(CacheFull, match=r"no room for huge \(409,600 bytes\): the cache may hold"):
        await fetch(cache, nodes[2])
    assert await here(cache, nodes) == ["a", "b"]


async def test_a_write_that_nobody_reserved_room_for_keeps_to_the_limits(cache: Cache) -> None:
    await limit(cache, 2 * footprint(SIZE))
    (node,) = await files(cache, file("a", 10 * SIZE))
    filler = fill(cache, node)
    with pytest.raises(CacheFull, match="no room for a"):
        write(filler, 0, 1000)
    assert not filler.present
    filler.discard()


async def test_a_file_of_unknown_length_takes_room_as_it_grows(cache: Cache, home: Path) -> None:
    await limit(cache, 6 * space_module.UNKNOWN_STEP)
    (node,) = await files(cache, file("a", None))
    filler = fill(cache, node)
    step = space_module.UNKNOWN_STEP
    for at in range(0, 4 * step, step):
        filler.write(at, bytes(step))
    with pytest.raises(CacheFull):
        filler.write(4 * step, bytes(2 * step))
    assert on_disk(home) <= 6 * step
    filler.discard()


async def test_what_others_complete_is_waited_for_but_not_by_a_reader(home: Path) -> None:
    """It cannot be evicted before it is sealed, a moment later."""
    async with Cache.open(home) as mine, Cache.open(home) as other:
        await limit(mine, 4 * footprint(SIZE))
        nodes = await files(mine, *(file(f"{n}", SIZE) for n in range(6)))
        for node in nodes[:4]:
            await fetch(other, node)
        with pytest.raises(CacheFull):
            await fetch(mine, nodes[4])
        filler = fill(mine, nodes[5])
        filler.arrives(opened=False, wanted=True)
        await mine.objects.reserve(filler, SIZE)
        filler.discard()
        assert mine.space.room().occupied <= 3 * footprint(SIZE)


async def test_an_object_in_use_is_never_taken(cache: Cache, home: Path) -> None:
    await limit(cache, 4 * footprint(SIZE))
    nodes = await files(cache, *(file(f"{n}", SIZE) for n in range(8)))
    await fetch(cache, nodes[0])
    fd = cache.objects.open_complete(nodes[0])
    for node in nodes[1:]:
        await fetch(cache, node)
    assert "0" in await here(cache, nodes)
    assert read_all(fd) == content(nodes[0].id, 0, SIZE)
    for node in nodes[1:]:
        await cache.objects.drop(node)
        await fetch(cache, node)
    assert "0" not in await here(cache, nodes)


async def test_a_descriptor_given_out_before_sealing_keeps_its_object(cache: Cache) -> None:
    await limit(cache, 4 * footprint(SIZE))
    nodes = await files(cache, *(file(f"{n}", SIZE) for n in range(8)))
    filler = fill(cache, nodes[0])
    write(filler, 0, SIZE)
    first = filler.complete()
    second = cache.objects.open_complete(nodes[0])
    os.close(first)
    for node in nodes[1:]:
        await fetch(cache, node)
        await cache.objects.sync()
    assert "0" in await here(cache, nodes)
    assert read_all(second) == content(nodes[0].id, 0, SIZE)


async def test_pinned_files_are_kept_until_they_are_unpinned(cache: Cache) -> None:
    await limit(cache, 4 * footprint(SIZE))
    nodes = await files(cache, *(file(f"{n}", SIZE) for n in range(12)))
    source = nodes[0].source
    await cache.pins.add(source, ["0", "[1]"])
    for node in nodes:
        await fetch(cache, node)
    assert {"0", "1"} < set(await here(cache, nodes))
    assert [(pin.pattern) for pin in cache.pins.all()] == ["0", "[1]"]
    assert await cache.pins.remove(source, ["[1]", "nothing"]) == ["[1]"]
    for node in nodes[2:]:
        await cache.objects.drop(node)
        await fetch(cache, node)
    assert "0" in await here(cache, nodes)
    assert "1" not in await here(cache, nodes)
    await cache.pins.add(source, [node.name for node in nodes])
    there = await here(cache, nodes)
    refused = 0
    for node in nodes:
        if node.name not in there:
            try:
                await fetch(cache, node)
            except CacheFull:
                refused += 1
    assert refused >= 8, "what is pinned makes no room"
    assert set(there) <= set(await here(cache, nodes))


async def test_what_the_origin_has_replaced_goes_first(cache: Cache) -> None:
    await limit(cache, 3 * footprint(SIZE) + footprint(SIZE) // 2)
    nodes = await files(cache, *(file(f"{n}", SIZE) for n in range(4)))
    for node in nodes[:3]:
        await fetch(cache, node)
    await cache.objects.sync()
    await files(cache, file("0", SIZE), file("1", SIZE, mtime_ns=5), file("2", SIZE), file("3", SIZE))
    await fetch(cache, nodes[3])
    assert await here(cache, nodes) == ["0", "2", "3"]


async def test_a_partial_object_that_nobody_fills_makes_room(cache: Cache, home: Path) -> None:
    await limit(cache, 4 * footprint(SIZE))
    nodes = await files(cache, *(file(f"{n}", SIZE) for n in range(8)))
    filler = fill(cache, nodes[0])
    write(filler, 0, SIZE // 2)
    filler.close()
    await cache.objects.sync()
    held = fill(cache, nodes[1])
    write(held, 0, SIZE // 2)
    for node in nodes[2:]:
        await fetch(cache, node)
        await cache.objects.sync()
        assert on_disk(home) <= 4 * footprint(SIZE)
    assert not cache.objects.state(nodes[0]).extents
    assert held.present.total == SIZE // 2
    write(held, SIZE // 2, SIZE)
    assert read_all(held.complete()) == content(nodes[1].id, 0, SIZE)


async def test_what_is_not_needed_is_given_back(cache: Cache) -> None:
    await limit(cache, 100 * footprint(SIZE))
    nodes = await files(cache, file("a", SIZE), file("b", SIZE))
    await fetch(cache, nodes[0])
    filler = fill(cache, nodes[1])
    await cache.objects.reserve(filler, SIZE)
    filler.discard()
    await cache.objects.sync()
    await cache.objects.sync()
    now = cache.space.room()
    assert now.claimed == 0
    assert now.occupied == cache.tree._reader.all("SELECT sum(occupied) FROM objects")[0][0]


async def test_the_room_of_a_dead_process_is_counted_and_given_back(home: Path) -> None:
    with other("claims", home) as process:
        process.go()
        assert process.heard() == "claimed"
    async with Cache.open(home) as cache:
        now = cache.space.room()
        assert now.claimed == 0
        assert on_disk(home) <= now.occupied <= on_disk(home) + 3 * space_module.BLOCK
        assert list((home / "claims").iterdir()) == []


async def test_what_two_dead_processes_had_is_counted(home: Path) -> None:
    """One wrote more than the index knew; the other had its lease, and no more, when that was settled."""
    with other("claims", home) as writer, other("leased", home) as holder:
        writer.go()
        assert writer.heard() == "claimed"
        holder.go()
        assert holder.heard() == "open"  # before the first one dies: it settles nothing
        writer.process.kill()
        writer.process.wait()
        holder.go()
        assert holder.heard() == "leased"
        async with Cache.open(home):
            pass
    async with Cache.open(home) as cache:
        now = cache.space.room()
        assert now.claimed == 0
        assert on_disk(home) <= now.occupied <= on_disk(home) + 3 * space_module.BLOCK


async def test_the_note_of_a_removal_stays_until_the_names_are_gone(cache: Cache, home: Path) -> None:
    """Also when what is spare is given back meanwhile: after a kill nobody else would know of the object."""
    (node,) = await files(cache, file("a", SIZE))
    await fetch(cache, node)
    await cache.objects.sync()
    space = cache.space
    space.note([node.id])
    await space.given_back()
    notes = home / "claims" / space.claim_name
    assert node.id.to_bytes(8, "little") in notes.read_bytes()
    space.forget_note([node.id])
    await space.given_back()
    assert notes.read_bytes() == b""


@pytest.mark.parametrize("limit_bytes", [300 * KIB])
async def test_many_fills_at_once_keep_to_the_limit(cache: Cache, home: Path, limit_bytes: int) -> None:
    await limit(cache, limit_bytes)
    nodes = await files(cache, *(file(f"{n:03}", 20 * KIB) for n in range(200)))
    highest = 0

    async def some(mine: Sequence[Node]) -> None:
        nonlocal highest
        for node in mine:
            await fetch(cache, node)
            highest = max(highest, on_disk(home))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for start in range(8):
            nursery.start_soon(some, nodes[start::8])
    assert limit_bytes // 2 < highest <= limit_bytes


async def test_a_lease_is_noted_before_it_is_taken(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever settles for the dead leaves alone what has one: its holder may be killed in the next moment."""
    noted: list[set[int]] = []
    take = _files.take

    def notes() -> set[int]:
        all_of_them = b"".join(path.read_bytes() for path in (home / "claims").iterdir())
        return {int.from_bytes(all_of_them[at : at + 8], "little") for at in range(0, len(all_of_them), 8)}

    def watched(*args: Any) -> Any:
        noted.append(notes())
        return take(*args)

    monkeypatch.setattr(_files, "take", watched)
    filled, begun = await files(cache, file("filled"), file("begun"))
    complete(cache, filled)
    filler = await cache.objects.begin(begun)
    assert filler is not None
    filler.close()
    await cache.objects.sync()
    assert notes() == set()
    await cache.objects.drop(filled)
    assert len(noted) == 3
    assert filled.id in noted[0]
    assert begun.id in noted[1]
    assert filled.id in noted[2]
