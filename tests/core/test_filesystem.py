"""What look-ups, opens and reads mean, without a mount."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from mirror.config import OpenMode
from mirror.errors import IsAFolder, NotAFolder, NotFound, OriginFailed, VersionChanged
from mirror.fetch.pace import FIRST_PART
from tests.support.fake_remote import MTIME, FakeRemote, Source
from tests.support.worlds import World, opened

MIB = 1024 * 1024
Opener = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def world(tmp_path: Path) -> Opener:
    return partial(opened, tmp_path / "cache")


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_a_tree_is_listed_once_within_the_ttl(world: Opener) -> None:
    remote = FakeRemote({"a": Source(b"1"), "d/b": Source(b"22"), "d/c": Source(b"333")})
    async with world(remote) as w:
        assert (await w.node("d/c")).size == 3
        assert (await w.node("d/b")).size == 2
        assert [n.name for n in await w.fs.list_folder(w.fs.root.id, 0, 10)] == ["a", "d"]
        assert remote.count("list") == 2
        w.now += 61
        await w.node("d/c")
        assert remote.count("list") == 4


async def test_a_name_that_is_not_listed_does_not_exist(world: Opener) -> None:
    async with world(FakeRemote({"a": Source(b"1")})) as w:
        with pytest.raises(NotFound):
            await w.node("b")
        with pytest.raises(NotAFolder):
            await w.node("a/b")
        node = await w.node("a")
        with pytest.raises(IsAFolder):
            await w.fs.open(w.fs.root.id)
        assert node.size == 1


async def test_an_outage_is_never_an_absence(world: Opener) -> None:
    remote = FakeRemote({"d/a": Source(b"1")})
    async with world(remote) as w:
        await w.fs.list_folder(w.fs.root.id, 0, 10)
        remote.fault = OriginFailed("connection refused")
        with pytest.raises(OriginFailed):
            await w.node("d/a")
        with pytest.raises(OriginFailed):
            await w.node("d/zzz")


async def test_what_is_cached_is_served_while_the_origin_is_away(world: Opener) -> None:
    remote = FakeRemote({"d/a": Source(b"abc")})
    async with world(remote) as w:
        node = await w.node("d/a")
        await w.fs.open(node.id)
        remote.fault = OriginFailed("connection refused")
        w.now += 3600
        assert (await w.node("d/a")).id == node.id
        await w.fs.open(node.id)
        assert await w.content(node) == b"abc"
        with pytest.raises(NotFound):
            await w.node("d/b")


async def test_an_outage_costs_one_request_not_one_a_look_up(world: Opener) -> None:
    remote = FakeRemote({f"f{i}": Source(b"x") for i in range(20)})
    async with world(remote) as w:
        await w.node("f1")
        remote.fault = OriginFailed("connection refused")
        w.now += 3600
        before = remote.requests
        for i in range(20):
            await w.node(f"f{i}")
        assert remote.requests - before == 1


async def test_a_small_file_is_complete_and_registered_when_open_answers(world: Opener) -> None:
    data = random_bytes(300_000)
    remote = FakeRemote({"a": Source(data)})
    async with world(remote) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert w.registered == [node.id]
        assert w.cache.objects.state(node).complete
        assert await w.content(node) == data
        assert remote.count("part") == 1


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 16 * MIB, 16 * MIB + 1])
async def test_files_of_every_size_arrive_whole(world: Opener, size: int) -> None:
    data = random_bytes(size)
    async with world(FakeRemote({"a": Source(data)}, chunk=700_001), open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert w.registered == [node.id]
        got = b"".join([await w.content(node, 4 * MIB, at) for at in range(0, size + 1, 4 * MIB)])
        assert got == data


async def test_many_openers_of_one_file_cause_one_fetch(world: Opener) -> None:
    remote = FakeRemote({"a": Source(random_bytes(100_000))})
    async with world(remote) as w:
        node = await w.node("a")
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(w.fs.open, node.id)
        assert remote.count("part") == 1
        assert remote.delivered == 100_000


async def test_a_large_file_is_opened_at_once_and_read_where_it_is_wanted(world: Opener) -> None:
    size = 40 * MIB
    data = random_bytes(size)
    remote = FakeRemote({"a": Source(data)}, chunk=MIB)
    async with world(remote) as w:
        node = await w.node("a")
        remote.gate = trio.Event()
        await w.fs.open(node.id)
        assert w.registered == []
        async with trio.open_nursery() as nursery:
            results: list[bytes] = []

            async def read(at: int) -> None:
                results.append(await w.content(node, 1000, at))

            nursery.start_soon(read, 30 * MIB)
            await trio.testing.wait_all_tasks_blocked()
            remote.gate.set()
        assert results == [data[30 * MIB : 30 * MIB + 1000]]
        starts = [request.start for request in remote.seen if request.kind == "part"]
        assert 30 * MIB in starts
        await w.fetcher.whole(node)
        assert remote.delivered < size + 2 * MIB
        assert await w.content(node, 1000, 39 * MIB) == data[39 * MIB : 39 * MIB + 1000]


async def test_an_origin_without_ranges_is_streamed_once(world: Opener) -> None:
    data = random_bytes(20 * MIB)
    remote = FakeRemote({"a": Source(data)}, ranges=False, chunk=MIB)
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node, 100, 19 * MIB) == data[19 * MIB : 19 * MIB + 100]
        await w.fetcher.whole(node)
        assert remote.count("part") == 1
        assert await w.content(node, 100, 0) == data[:100]


async def test_a_broken_body_is_continued_where_it_broke(world: Opener) -> None:
    data = random_bytes(10 * MIB)
    remote = FakeRemote({"a": Source(data)}, chunk=MIB, break_at=5 * MIB)
    async with world(remote) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node) == data
        assert remote.delivered == 10 * MIB


async def test_a_change_under_an_incomplete_file_is_estale_and_the_next_look_up_is_new(
    world: Opener,
) -> None:
    old, new = random_bytes(40 * MIB, 1), random_bytes(41 * MIB, 2)
    remote = FakeRemote({"a": Source(old)}, chunk=MIB)
    async with world(remote) as w:
        node = await w.node("a")
        remote.gate = trio.Event()
        await w.fs.open(node.id)
        remote.files["a"] = Source(new, validator='etag:"2"', mtime_ns=1_800_000_000_000_000_000)
        remote.gate.set()
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 39 * MIB)
        fresh = await w.node("a")
        assert fresh.id != node.id
        assert [(a.id, b.id) for c in w.changes for a, b in c.changed] == [(node.id, fresh.id)]
        assert await w.content(fresh, 100, 39 * MIB) == new[39 * MIB : 39 * MIB + 100]


async def test_a_complete_file_goes_on_serving_its_version(world: Opener) -> None:
    remote = FakeRemote({"a": Source(b"old")})
    async with world(remote) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        remote.files["a"] = Source(b"newer", validator='etag:"2"')
        w.now += 61
        fresh = await w.node("a")
        assert fresh.id != node.id
        assert await w.content(node) == b"old"
        await w.fs.open(fresh.id)
        assert await w.content(fresh) == b"newer"


async def test_a_file_that_is_gone_is_not_found_at_open_and_stale_to_its_reader(world: Opener) -> None:
    remote = FakeRemote({"a": Source(b"abc"), "b": Source(b"x"), "big": Source(random_bytes(20 * MIB))})
    async with world(remote) as w:
        node, big = await w.node("a"), await w.node("big")
        del remote.files["a"], remote.files["big"]
        with pytest.raises(NotFound):
            await w.fs.open(node.id)
        with pytest.raises(NotFound):
            await w.node("a")
        await w.fs.open(big.id)
        with pytest.raises(VersionChanged):
            await w.content(big, 10)


@pytest.mark.parametrize("mtime_ns", [None, MTIME])
async def test_without_any_validator_answers_are_never_joined(world: Opener, mtime_ns: int | None) -> None:
    """Not by size and time either: a file may change twice within the second of its time."""
    data = random_bytes(20 * MIB)
    remote = FakeRemote({"a": Source(data, validator=None, mtime_ns=mtime_ns)}, chunk=MIB, break_at=5 * MIB)
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node, 100, 0) == data[:100]
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 10 * MIB)
        await w.fs.open(node.id)
        assert await w.content(node, 100, 10 * MIB) == data[10 * MIB : 10 * MIB + 100]


async def test_without_any_validator_a_broken_answer_is_begun_anew_while_nobody_had_a_byte(
    world: Opener,
) -> None:
    data = random_bytes(3 * MIB)
    remote = FakeRemote({"a": Source(data, validator=None)}, chunk=MIB, break_at=2 * MIB)
    async with world(remote) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node) == data
        # The first one shows that a part is nothing that could be continued.
        asked = [(seen.start, seen.stop) for seen in remote.seen if seen.kind == "part"]
        assert asked == [(0, FIRST_PART), (0, None), (0, None)]


async def test_bytes_without_a_validator_are_not_continued_by_an_answer_that_has_one(world: Opener) -> None:
    """Nor after the mount has ended: what a first answer left behind may be of any version."""
    data = random_bytes(20 * MIB)
    remote = FakeRemote({"a": Source(data[::-1], validator=None)}, chunk=MIB, break_at=5 * MIB)
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert await w.content(node, 100, 0) == data[::-1][:100]
        remote.files["a"] = Source(data)
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 10 * MIB)
        assert await w.content(node, 20 * MIB) == data


async def test_a_size_that_no_listing_tells_is_asked_for_lazily(world: Opener) -> None:
    remote = FakeRemote({f"f{i}": Source(b"x" * i, size_listed=False) for i in range(9)})
    async with world(remote) as w:
        nodes = await w.fs.list_folder(w.fs.root.id, 0, 100)
        assert [node.size for node in nodes] == [None] * 9
        assert remote.count("stat") == 0
        assert (await w.node("f3")).size == 3
        assert (await w.fs.attributes(nodes[5].id)).size == 5
        assert remote.count("stat") == 2


async def test_a_size_that_no_header_tells_is_measured(world: Opener) -> None:
    data = random_bytes(3 * MIB + 5)
    remote = FakeRemote({"a": Source(data, size_listed=False)}, lengths=False, ranges=False)
    async with world(remote) as w:
        node = await w.node("a")
        assert node.size == len(data)
        await w.fs.open(node.id)
        assert await w.content(node) == data
        assert remote.count("part") == 1


@pytest.mark.parametrize("size", [1000, 3 * MIB, 20 * MIB])
@pytest.mark.parametrize("more", [-1, 1, 5 * MIB])
async def test_a_body_of_no_stated_length_must_have_the_listed_one(
    world: Opener, size: int, more: int
) -> None:
    remote = FakeRemote({"a": Source(b"x" * size)}, chunk=MIB)
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        remote.lengths = remote.ranges = False
        remote.files["a"] = Source(b"y" * (size + more))
        with pytest.raises(VersionChanged):
            await w.fs.open(node.id)
        assert not w.cache.objects.state(node).complete


async def test_a_reader_that_walks_a_folder_finds_its_neighbours_fetched(world: Opener) -> None:
    files = {f"{i:04}": Source(bytes([i % 256]) * 1000) for i in range(300)}
    remote = FakeRemote(files)
    async with world(remote) as w:
        waited = 0
        for i in range(300):
            node = await w.node(f"{i:04}")
            waited += not w.cache.objects.state(node).complete
            await w.fs.open(node.id)
            assert await w.content(node) == files[f"{i:04}"].data
            await trio.testing.wait_all_tasks_blocked()
        assert waited < 30
        assert remote.count("part") == 300


async def test_random_opens_fetch_nothing_ahead(world: Opener) -> None:
    remote = FakeRemote({f"{i:04}": Source(b"x") for i in range(300)})
    async with world(remote) as w:
        order = list(range(0, 300, 30))
        random.Random(3).shuffle(order)
        for i in order:
            await w.fs.open((await w.node(f"{i:04}")).id)
        await trio.testing.wait_all_tasks_blocked()
        assert remote.count("part") == len(order)


async def test_a_partial_file_resumes_where_it_was(world: Opener) -> None:
    data = random_bytes(40 * MIB)
    remote = FakeRemote({"a": Source(data)}, chunk=MIB)
    async with world(remote, open_mode=OpenMode.STREAM) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        await w.content(node, 100, 0)
        remote.gate = trio.Event()
    got = remote.delivered
    assert 0 < got < 40 * MIB
    remote.gate.set()
    async with world(remote, open_mode=OpenMode.WAIT) as w:
        node = await w.node("a")
        await w.fs.open(node.id)
        assert remote.delivered < 40 * MIB + 8 * MIB
        fds = os.listdir("/proc/self/fd")  # noqa: PTH208
        assert len(fds) < 200
        assert await w.content(node, 40 * MIB) == data
