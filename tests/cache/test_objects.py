"""The life of an object: filled, resumed, complete, sealed, dropped."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from cache import Cache, Extents, _sealing, durability, identity, names
from cache.durability import BEGUN_TOGETHER
from cache.names import Names
from tests.cache.support import complete, content, file, files, fill, read_all, write
from tests.support.waiting import eventually


def sealed_rows(home: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(home / "index.sqlite") as db:
        found = db.execute("SELECT node, size FROM objects WHERE sealed_at IS NOT NULL").fetchall()
    db.close()
    return found


def extent_rows(home: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(home / "index.sqlite") as db:
        found = db.execute("SELECT start, stop FROM extents ORDER BY start").fetchall()
    db.close()
    return found


async def test_a_complete_object_is_served_at_once_and_sealed_later(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", 300_000))
    assert cache.objects.state(node).complete is False
    assert cache.objects.open_complete(node) is None
    filler = fill(cache, node)
    assert (filler.node, list(filler.present)) == (node, [])
    write(filler, 0, 300_000)
    fd = filler.complete()
    right = content(node.id, 0, 300_000)
    assert read_all(fd) == right
    assert cache.objects.state(node).complete
    assert read_all(cache.objects.open_complete(node)) == right
    await cache.objects.sync()
    assert sealed_rows(home) == [(node.id, 300_000)]
    state = cache.objects.state(node)
    assert (state.complete, list(state.extents)) == (True, [(0, 300_000)])
    fd2 = cache.objects.open_complete(node)
    assert fd2 is not None
    seen = identity.read(fd2)
    assert seen is not None
    assert seen.is_of(node, cache.tree.place(node.id))
    assert os.fstat(fd2).st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd2, b"x")
    os.close(fd2)
    assert cache.objects.fill(node) is None, "what is complete is not filled"
    assert not list(home.glob("objects/*/*.part"))


async def test_the_disk_has_complete_objects_long_before_they_are_sealed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time, each once: there is less to wait for at the end."""
    monkeypatch.setattr(durability, "GATHER_SECONDS", 600.0)
    begun: list[int] = []

    def begin(fds: Sequence[int]) -> None:
        begun.extend(os.fstat(fd).st_ino for fd in fds)

    monkeypatch.setattr(_sealing, "begin_writing", begin)
    async with Cache.open(home) as cache:
        nodes = await files(cache, *(file(f"{number}", 1000) for number in range(100)))
        for node in nodes:
            complete(cache, node)
        await trio.to_thread.run_sync(eventually, lambda: len(begun) > 100 - BEGUN_TOGETHER, "it has begun")
        assert sealed_rows(home) == []
        await cache.objects.sync()
        assert len(sealed_rows(home)) == 100
    assert len(begun) == len(set(begun))


async def test_what_was_fetched_before_a_restart_is_not_fetched_again(home: Path) -> None:
    async with Cache.open(home) as cache:
        (node,) = await files(cache, file("a", 100_000))
        filler = fill(cache, node)
        write(filler, 0, 10_000)
        write(filler, 50_000, 60_000)
        filler.close()
    assert extent_rows(home) == [(0, 10_000), (50_000, 60_000)]
    async with Cache.open(home) as cache:
        assert list(cache.objects.state(node).extents) == [(0, 10_000), (50_000, 60_000)]
        filler = fill(cache, node)
        assert filler.present.gaps(0, 100_000) == [(10_000, 50_000), (60_000, 100_000)]
        assert filler.read(50_000, 10_000) == content(node.id, 50_000, 60_000)
        for start, stop in filler.present.gaps(0, 100_000):
            write(filler, start, stop)
        assert read_all(filler.complete()) == content(node.id, 0, 100_000)
    async with Cache.open(home) as cache:
        assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 100_000)
        assert extent_rows(home) == []


async def test_a_fill_that_is_left_alone_is_kept_when_the_cache_is_closed(home: Path) -> None:
    async with Cache.open(home) as cache:
        (node,) = await files(cache, file("a", 100_000))
        write(fill(cache, node), 0, 10_000)
    async with Cache.open(home) as cache:
        assert list(cache.objects.state(node).extents) == [(0, 10_000)]


async def test_there_is_one_filler_and_it_can_be_followed_at_once(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 1000))
    filler = fill(cache, node)
    assert cache.objects.fill(node) is None
    write(filler, 0, 500)
    assert list(cache.objects.state(node).extents) == [(0, 500)]
    filler.close()
    second = fill(cache, node)
    assert list(second.present) == [(0, 500)]
    await cache.objects.sync()
    assert cache.objects.fill(node) is None, "the checkpoint of the first does not end the second's lease"
    write(second, 500, 1000)
    os.close(second.complete())
    assert cache.objects.fill(node) is None


async def test_many_are_begun_together_and_what_is_not_new_is_left(cache: Cache, home: Path) -> None:
    """What is complete, here or in the index, held, or another's: `begin` tells what it is."""
    new, sealed, completed, held, partial, taken = await files(
        cache, *(file(name, 1000) for name in ("new", "sealed", "completed", "held", "partial", "taken"))
    )
    complete(cache, sealed)
    write(fill(cache, partial), 0, 500)
    async with Cache.open(home) as other:
        assert fill(other, taken)
        await cache.objects.sync()
        complete(cache, completed)
        assert fill(cache, held)
        begun = await cache.objects.begin_all([new, sealed, completed, held, partial, taken])
        assert [filler is not None for filler in begun] == [True, False, False, False, False, False]
        assert cache.objects.fill(new) is None
    (filler, *_) = begun
    assert filler is not None
    write(filler, 0, 1000)
    assert read_all(filler.complete()) == content(new.id, 0, 1000)
    assert read_all(cache.objects.open_complete(sealed)) == content(sealed.id, 0, 1000)


async def test_what_is_begun_together_goes_on_where_it_was(home: Path) -> None:
    async with Cache.open(home) as cache:
        nodes = await files(cache, file("a", 1000), file("b", 1000))
        write(fill(cache, nodes[1]), 0, 400)
    async with Cache.open(home) as cache:
        begun = await cache.objects.begin_all(nodes)
        assert [list(filler.present) for filler in begun if filler is not None] == [[], [(0, 400)]]
        for filler in begun:
            assert filler is not None
            filler.discard()
        assert await cache.objects.begin_all([]) == []


async def test_what_is_sealed_between_two_looks_at_it_is_not_taken_for_lost(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = await files(cache, file("a", 1000))
    real = names.open_read
    looks: list[str] = []

    def meanwhile(path: str) -> int | None:
        found = real(path)
        looks.append(path)
        if len(looks) == 1:
            assert found is None
            complete(cache, node)
            cache.objects._durability.flush().result()
            assert cache.objects.held(node) is None
        return found

    monkeypatch.setattr("cache.objects.open_read", meanwhile)
    fd, dropped = cache.objects.examine(node)
    assert read_all(fd) == content(node.id, 0, 1000)
    assert not dropped


async def test_extents_reach_the_index_while_a_fill_goes_on(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", 100_000))
    filler = fill(cache, node)
    for start in (40_000, 0, 20_000):
        write(filler, start, start + 20_000)
        await cache.objects.sync()
        assert extent_rows(home) == list(filler.present)
    filler.discard()


async def test_discarded_bytes_are_gone(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", 1000))
    filler = fill(cache, node)
    filler.write(0, b"\0" * 600)
    await cache.objects.sync()
    filler.discard()
    again = fill(cache, node)
    assert list(again.present) == []
    write(again, 0, 1000)
    assert read_all(again.complete()) == content(node.id, 0, 1000)
    await cache.objects.sync()
    assert sealed_rows(home) == [(node.id, 1000)]


async def test_a_fill_that_got_nothing_leaves_nothing(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", 1000))
    fill(cache, node).close()
    await cache.objects.sync()
    assert not list(home.glob("objects/*/*"))


async def test_an_empty_file_is_complete_without_a_write(cache: Cache) -> None:
    (node,) = await files(cache, file("empty", 0))
    assert read_all(fill(cache, node).complete()) == b""
    await cache.objects.sync()
    assert cache.objects.state(node).complete
    assert read_all(cache.objects.open_complete(node)) == b""


async def test_a_length_that_nobody_told_is_known_in_the_end(cache: Cache) -> None:
    (node,) = await files(cache, file("a", None))
    filler = fill(cache, node)
    write(filler, 0, 700)
    with pytest.raises(ValueError, match="not complete"):
        filler.complete()
    with pytest.raises(ValueError, match="cannot have 699 bytes"):
        filler.set_size(699)
    filler.set_size(700)
    filler.set_size(700)
    with pytest.raises(ValueError, match="cannot have 701 bytes"):
        filler.set_size(701)
    os.close(filler.complete())
    await cache.objects.sync()
    assert cache.tree.node(node.id) == replace(node, size=700)
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 700)


async def test_a_partial_object_can_never_be_taken_for_a_whole_one(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 1000))
    filler = fill(cache, node)
    write(filler, 500, 1000)
    with pytest.raises(ValueError, match="not complete"):
        filler.complete()
    assert cache.objects.open_complete(node) is None
    filler.close()


async def test_a_file_that_was_cut_under_the_filler_is_not_completed(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a", 1000))
    filler = fill(cache, node)
    write(filler, 0, 1000)
    (part,) = home.glob("objects/*/*.part")
    os.truncate(part, 999)
    with pytest.raises(Exception, match="was changed while it was written"):
        filler.complete()
    assert not cache.objects.state(node).complete
    complete(cache, node)


async def test_a_superseded_version_is_served_as_long_as_somebody_has_it(cache: Cache) -> None:
    (old,) = await files(cache, file("a", 1000))
    complete(cache, old)
    (new,) = await files(cache, file("a", 2000))
    assert read_all(cache.objects.open_complete(old)) == content(old.id, 0, 1000)
    assert not cache.objects.state(new).complete
    complete(cache, new)
    assert read_all(cache.objects.open_complete(new)) == content(new.id, 0, 2000)


async def test_threads_write_their_ranges_at_once(cache: Cache) -> None:
    size = 64 * 4096
    (node,) = await files(cache, file("a", size))
    filler = fill(cache, node)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda start: write(filler, start, start + 4096), range(0, size, 4096)))
    assert filler.present == Extents([(0, size)])
    assert read_all(filler.complete()) == content(node.id, 0, size)


async def test_what_another_reads_of_a_partial_object_is_what_is_there(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 1000))
    assert cache.objects.partials.open(node) is None
    assert cache.objects.partials.read(node, 0, 1) is None
    filler = fill(cache, node)
    write(filler, 100, 400)
    assert cache.objects.partials.read(node, 100, 300) == content(node.id, 100, 400)
    assert cache.objects.partials.read(node, 99, 10) is None
    assert cache.objects.partials.read(node, 390, 20) is None
    fd = cache.objects.partials.open(node)
    assert fd is not None
    assert os.pread(fd, 300, 100) == content(node.id, 100, 400)
    os.close(fd)
    write(filler, 0, 1000)
    os.close(filler.complete())
    assert cache.objects.partials.read(node, 0, 1000) == content(node.id, 0, 1000)
    await cache.objects.sync()
    assert cache.objects.partials.read(node, 0, 1000) == content(node.id, 0, 1000)


async def test_use_is_noted(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a"))
    complete(cache, node)
    await cache.objects.sync()
    db = sqlite3.connect(home / "index.sqlite", isolation_level=None)
    db.execute("UPDATE objects SET used_at = 5.0")
    cache.objects.touch(node.id)
    await cache.objects.sync()
    assert db.execute("SELECT used_at FROM objects").fetchone()[0] > 5.0
    db.close()


async def test_uses_that_others_saw_are_noted_with_their_time(cache: Cache, home: Path) -> None:
    """The last use counts, in whatever order they are heard of."""
    nodes = await files(cache, file("a"), file("b"))
    for node in nodes:
        complete(cache, node)
    await cache.objects.sync()
    db = sqlite3.connect(home / "index.sqlite", isolation_level=None)
    db.execute("UPDATE objects SET used_at = 5.0")
    first, second = (node.id for node in nodes)
    cache.objects.touch_many([(first, 7.0), (second, 3.0), (first, 6.0)])
    await cache.objects.sync()
    assert dict(db.execute("SELECT node, used_at FROM objects")) == {first: 7.0, second: 5.0}
    db.close()


async def test_a_dropped_object_is_fetched_anew(cache: Cache, home: Path) -> None:
    whole, partial, filling, never = await files(cache, *map(file, ("whole", "partial", "filling", "never")))
    complete(cache, whole)
    filler = fill(cache, partial)
    write(filler, 0, 100)
    filler.close()
    kept = fill(cache, filling)
    write(kept, 0, 100)
    fd = cache.objects.open_complete(whole)
    for node in (whole, partial, filling, never):
        await cache.objects.drop(node)
    assert read_all(fd) == content(whole.id, 0, 1000), "who has it open goes on reading"
    assert len(list(home.glob("objects/*/*"))) == 1
    assert not cache.objects.state(whole).complete
    assert list(cache.objects.state(partial).extents) == []
    write(kept, 100, 1000)
    assert read_all(kept.complete()) == content(filling.id, 0, 1000)
    complete(cache, whole)
    assert read_all(cache.objects.open_complete(whole)) == content(whole.id, 0, 1000)


async def test_more_complete_objects_than_leases_are_sealed_all_the_same(cache: Cache, home: Path) -> None:
    cache.objects._durability._leases = 2
    nodes = await files(cache, *(file(str(number)) for number in range(20)))
    for node in nodes:
        complete(cache, node)
    await cache.objects.sync()
    assert len(sealed_rows(home)) == 20
    for node in nodes:
        assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_what_is_gathered_is_sealed_when_somebody_asks_or_it_is_many(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.durability.PLENTY", 0)
    cache.objects.gather(600.0)
    cache.objects._durability._leases = 8
    nodes = await files(cache, *(file(str(number)) for number in range(5)))
    complete(cache, nodes[0])
    await cache.objects.sync()
    assert len(sealed_rows(home)) == 1
    for node in nodes[1:4]:
        complete(cache, node)
    assert len(sealed_rows(home)) == 1
    complete(cache, nodes[4])
    await trio.to_thread.run_sync(
        eventually, lambda: len(sealed_rows(home)) == 5, "half of the leases are taken"
    )


async def test_nothing_is_gathered_for_long_where_room_is_short(
    cache: Cache, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others cannot evict what is not sealed."""
    monkeypatch.setattr("cache.durability.PLENTY", 1 << 62)
    cache.objects.gather(600.0)
    first, second = await files(cache, file("first"), file("second"))
    complete(cache, first)
    await cache.objects.sync()
    complete(cache, second)
    await trio.to_thread.run_sync(eventually, lambda: len(sealed_rows(home)) == 2, "it is sealed by itself")


async def test_no_remote_name_becomes_a_path(cache: Cache, home: Path) -> None:
    nodes = await files(cache, file("-rf"), file("a\nb"), file("%2e%2e%2f"))
    for node in nodes:
        complete(cache, node)
        final = Names(home).of(node.key).final
        assert final == f"{home}/objects/{node.key.hex()[:2]}/{node.key.hex()}"
    assert len(list(home.glob("objects/*/*"))) == 3
