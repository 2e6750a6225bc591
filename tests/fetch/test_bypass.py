"""Reading past a cache that has no room, without a mount."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from cache import CacheFull, Node, Objects
from mirror.config import OpenMode
from mirror.errors import OriginFailed, VersionChanged
from mirror.fetch import Priority, bypass, stream
from mirror.retry import Schedule
from tests.support import worlds
from tests.support.data import KiB, MiB, noise
from tests.support.fake_remote import MTIME, FakeRemote, Request, Source
from tests.support.worlds import World, opened

Opener = Callable[[FakeRemote], AbstractAsyncContextManager[World]]

DATA = noise("large", 64 * MiB)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """A world whose cache has no room for anything."""

    async def refuse(_objects: Objects, _node: Node) -> None:
        raise CacheFull("no room")

    monkeypatch.setattr(Objects, "begin", refuse)

    @asynccontextmanager
    async def world(remote: FakeRemote) -> AsyncIterator[World]:
        async with opened(tmp_path / "cache", remote, open_mode=OpenMode.STREAM) as w:
            yield w

    return world


async def open_file(w: World, path: str = "a") -> Node:
    node = await w.node(path)
    await w.fs.open(node.id)
    return node


async def in_order(w: World, node: Node, data: bytes, size: int, start: int = 0) -> None:
    for at in range(start, len(data), size):
        assert await w.content(node, size, at) == data[at : at + size]


def parts(remote: FakeRemote) -> list[Request]:
    return [request for request in remote.seen if request.kind == "part"]


@pytest.mark.parametrize("size", [128 * KiB, MiB])
async def test_a_file_read_in_order_comes_in_a_few_answers(full: Opener, size: int) -> None:
    """Some exact requests until it is clear that the reader goes on, then one to the end."""
    remote = FakeRemote({"a": Source(DATA)}, chunk=100_000)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA, size)
        assert len(parts(remote)) == MiB // size + 1
        assert remote.delivered == len(DATA)
        assert w.fetcher.counters.bytes_bypassed == len(DATA)


async def test_reads_far_apart_transfer_what_they_ask_for(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=64 * KiB)
    luck = random.Random(1)
    async with full(remote) as w:
        node = await open_file(w)
        for _ in range(300):
            at, size = luck.randrange(len(DATA)), luck.choice((1, 4 * KiB, 128 * KiB))
            assert await w.content(node, size, at) == DATA[at : at + size]
        assert remote.delivered == w.fetcher.counters.bytes_bypassed
        assert w.fetcher.bypass.streams == 0


@pytest.mark.parametrize("ranges", [True, False])
async def test_the_kernels_read_ahead_asks_slightly_out_of_order(full: Opener, ranges: bool) -> None:
    """Several reads at once, in any order, are served by the same few answers."""
    remote = FakeRemote({"a": Source(DATA)}, ranges=ranges, chunk=300_000)
    luck = random.Random(2)
    async with full(remote) as w:
        node = await open_file(w)

        async def check(at: int) -> None:
            assert await w.content(node, 512 * KiB, at) == DATA[at : at + 512 * KiB]

        for start in range(0, len(DATA), 2 * MiB):
            batch = [start + step * 512 * KiB for step in range(4)]
            luck.shuffle(batch)
            async with trio.open_nursery() as nursery:
                for at in batch:
                    nursery.start_soon(check, at)
        assert len(parts(remote)) <= 16 < len(DATA) // (512 * KiB)
        assert remote.delivered < len(DATA) + 8 * MiB


async def test_memory_is_bounded_however_many_files_are_read(full: Opener) -> None:
    """Slow readers hold no more either: nothing is received for which nobody has asked."""
    files = {f"f{i:02}": Source(noise(i, 12 * MiB)) for i in range(12)}
    remote = FakeRemote(files, chunk=MiB)
    async with full(remote) as w:
        held: list[int] = []

        async def watch() -> None:
            while True:
                held.append(w.fetcher.bypass.held)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            async with trio.open_nursery() as nursery:
                for name, source in files.items():
                    nursery.start_soon(in_order, w, await open_file(w, name), source.data, MiB)
            watching.cancel_scope.cancel()
        assert bypass.STREAMS * MiB < max(held) <= bypass.MEMORY == 30 * MiB
        assert max(held) <= bypass.MEMORY


async def test_readers_beyond_the_streams_do_not_take_them_from_each_other(full: Opener) -> None:
    """Who finds none free asks for its own bytes; nobody's stream is begun anew."""
    files = {f"f{i:02}": Source(noise(i, 8 * MiB)) for i in range(10)}
    remote = FakeRemote(files, chunk=256 * KiB)
    async with full(remote) as w:
        nodes = [await open_file(w, name) for name in files]
        for at in range(0, 8 * MiB, MiB):
            for node, source in zip(nodes, files.values(), strict=True):
                assert await w.content(node, MiB, at) == source.data[at : at + MiB]
        assert w.fetcher.bypass.streams == bypass.STREAMS
        streamed = [r for r in parts(remote) if r.stop is None]
        assert len(streamed) == bypass.STREAMS
        assert len(parts(remote)) == bypass.STREAMS * 2 + 4 * 8


async def test_an_idle_stream_gives_way(full: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bypass, "GRACE", 0.0)
    files = {f"f{i:02}": Source(noise(i, 8 * MiB)) for i in range(10)}
    remote = FakeRemote(files, chunk=256 * KiB)
    async with full(remote) as w:
        for name, source in files.items():
            await in_order(w, await open_file(w, name), source.data[: 4 * MiB], MiB)
        assert w.fetcher.bypass.streams == bypass.STREAMS
        assert len(parts(remote)) == 10 * 2


async def test_a_stream_that_nobody_reads_ends(full: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory and its connection are free again; the next read goes on all the same."""
    monkeypatch.setattr(stream, "IDLE", 0.0)
    remote = FakeRemote({"a": Source(DATA)}, chunk=256 * KiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 4 * MiB], MiB)
        await trio.testing.wait_all_tasks_blocked()
        assert (w.fetcher.bypass.streams, w.fetcher.bypass.held) == (0, 0)
        assert await w.content(node, MiB, 4 * MiB) == DATA[4 * MiB : 5 * MiB]


async def test_no_more_is_received_than_a_window(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=64 * KiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 4 * MiB], MiB)
        await trio.testing.wait_all_tasks_blocked()
        assert 4 * MiB < remote.delivered <= 4 * MiB + stream.AHEAD + 64 * KiB


async def test_a_broken_stream_continues_where_it_broke(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB, break_at=20 * MiB)
    async with full(remote) as w:
        await in_order(w, await open_file(w), DATA, MiB)
        assert [r.start for r in parts(remote)] == [0, MiB, 20 * MiB]
        assert remote.delivered == len(DATA)


async def test_an_origin_without_ranges_is_read_through(full: Opener) -> None:
    """In order, and with leaps: what lies between is read and thrown away."""
    remote = FakeRemote({"a": Source(DATA)}, ranges=False, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 16 * MiB], 128 * KiB)
        await in_order(w, node, DATA, 128 * KiB, start=48 * MiB)
        assert len(parts(remote)) == 2
        assert remote.delivered == len(DATA)
        assert w.fetcher.bypass.held <= bypass.MEMORY


async def test_reading_backwards_from_an_origin_without_ranges_begins_anew(
    full: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    remote = FakeRemote({"a": Source(DATA[: 20 * MiB])}, ranges=False, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        for at in (18 * MiB, 9 * MiB, 0):
            assert await w.content(node, 4 * KiB, at) == DATA[at : at + 4 * KiB]
        assert len(parts(remote)) == 1 + 3
        assert caplog.text.count("reading backwards fetches it anew") == 1


async def test_an_origin_without_ranges_that_breaks_is_read_through_again(full: Opener) -> None:
    """With a validator the bytes of the second answer are known to be the same version's."""
    remote = FakeRemote({"a": Source(DATA)}, ranges=False, chunk=MiB, break_at=20 * MiB)
    async with full(remote) as w:
        await in_order(w, await open_file(w), DATA, MiB)
        assert len(parts(remote)) == 3
        assert remote.delivered == len(DATA) + 20 * MiB


async def test_a_range_of_any_size_is_served(full: Opener) -> None:
    """Also one that is larger than a window, also at the end of the file."""
    for ranges in (True, False):
        remote = FakeRemote({"a": Source(DATA)}, ranges=ranges, chunk=3 * MiB)
        async with full(remote) as w:
            node = await open_file(w)
            assert await w.content(node, 1 << 40, 5) == DATA[5:]
            assert await w.content(node, 100, len(DATA) - 1) == DATA[-1:]
            assert await w.content(node, 100, len(DATA)) == b""


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_change_at_the_origin_is_estale(full: Opener, ranges: bool) -> None:
    """Also where size and time stay the same: the first answer's validator counts from then on."""
    remote = FakeRemote({"a": Source(DATA)}, ranges=ranges, chunk=MiB, break_at=10 * MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 8 * MiB], MiB)
        remote.files["a"] = Source(DATA[::-1], validator='etag:"2"')
        with pytest.raises(VersionChanged):
            await w.content(node, MiB, 40 * MiB)
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 0)


async def test_a_file_that_is_gone_is_stale_to_its_reader(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        assert await w.content(node, 100, 0) == DATA[:100]
        del remote.files["a"]
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 30 * MiB)


async def test_without_any_validator_all_bytes_are_of_one_answer(full: Opener) -> None:
    """In order that works; what would need a second answer is ESTALE, until the file is opened again."""
    remote = FakeRemote({"a": Source(DATA[: 16 * MiB], validator=None, mtime_ns=None)}, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 8 * MiB], MiB)
        assert len(parts(remote)) == 1
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 0)
        await in_order(w, node, DATA[: 16 * MiB], MiB, start=8 * MiB)
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 0)
        await w.fs.open(node.id)
        await in_order(w, node, DATA[: 16 * MiB], MiB)
        assert len(parts(remote)) == 2


@pytest.mark.parametrize("mtime_ns", [None, MTIME])
async def test_without_any_validator_a_broken_answer_is_not_continued(
    full: Opener, mtime_ns: int | None
) -> None:
    remote = FakeRemote({"a": Source(DATA, validator=None, mtime_ns=mtime_ns)}, chunk=MiB, break_at=5 * MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 2 * MiB], MiB)
        with pytest.raises(VersionChanged):
            await w.content(node, MiB, 6 * MiB)
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 0)
        await w.fs.open(node.id)
        await in_order(w, node, DATA[: 8 * MiB], MiB)


async def test_an_answer_that_names_no_version_is_not_joined_to_one_that_does(full: Opener) -> None:
    """The listing has a time, the answers have none: their bytes cannot be told apart."""
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        assert await w.content(node, 100, 0) == DATA[:100]
        remote.files["a"] = Source(DATA[::-1], validator=None, mtime_ns=None)
        with pytest.raises(VersionChanged):
            await w.content(node, 100, 30 * MiB)


async def test_an_outage_is_an_error_and_over_when_it_is_over(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 4 * MiB], MiB)
        remote.fault = OriginFailed("connection refused")
        with pytest.raises(OriginFailed):
            await w.content(node, MiB, 40 * MiB)
        remote.fault = None
        assert await w.content(node, MiB, 40 * MiB) == DATA[40 * MiB : 41 * MiB]


async def test_a_reader_that_asks_again_after_an_outage_is_streamed_again(full: Opener) -> None:
    """The kernel does so page by page, when a read-ahead failed."""
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB, break_at=8 * MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 7 * MiB], MiB)
        remote.fault = OriginFailed("connection refused")

        async def fails(at: int) -> None:
            with pytest.raises(OriginFailed):
                await w.content(node, MiB, at)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, 8 * MiB)
            nursery.start_soon(fails, 9 * MiB)
        remote.fault = None
        before = len(parts(remote))
        await in_order(w, node, DATA[: 12 * MiB], 4 * KiB, start=8 * MiB)
        assert len(parts(remote)) == before + 1


async def test_a_reader_that_gives_up_harms_nobody(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 4 * MiB], MiB)
        remote.gate = trio.Event()
        results: list[bytes] = []

        async def read(at: int) -> None:
            results.append(await w.content(node, MiB, at))

        async with trio.open_nursery() as nursery, trio.open_nursery() as impatient:
            nursery.start_soon(read, 6 * MiB)
            impatient.start_soon(read, 7 * MiB)
            impatient.start_soon(read, 50 * MiB)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
            remote.gate.set()
        assert results == [DATA[6 * MiB : 7 * MiB]]
        await in_order(w, node, DATA, MiB, start=7 * MiB)


async def test_streams_under_way_end_with_the_mount(full: Opener) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=64 * KiB)
    async with full(remote) as w:
        node = await open_file(w)
        await in_order(w, node, DATA[: 4 * MiB], MiB)
        past = w.fetcher.bypass
        assert past.streams == 1
    assert past.streams == 0


async def test_any_mixture_of_readers_gets_the_right_bytes(
    full: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many tasks, some in order, some not, over origins with and without ranges, that break at times."""
    # What breaks for one reader may be another's answer, and one answer may break several times in a row.
    monkeypatch.setattr(worlds, "SCHEDULE", Schedule(first=0.001, longest=0.01, tries=1000, deadline=1000))
    for ranges in (True, False):
        files = {f"f{i}": Source(noise(i, 9 * MiB)) for i in range(4)}
        remote = FakeRemote(files, ranges=ranges, chunk=200_000)
        async with full(remote) as w:
            nodes = {name: await open_file(w, name) for name in files}

            async def reader(
                seed: int, w: World = w, nodes: dict[str, Node] = nodes, remote: FakeRemote = remote
            ) -> None:
                luck = random.Random(seed)
                at = 0
                for _ in range(60):
                    name = f"f{seed % 4}"
                    if luck.random() < 0.2:
                        at = luck.randrange(9 * MiB)
                    if luck.random() < 0.02:
                        remote.break_at = luck.randrange(9 * MiB)
                    size = luck.choice((4 * KiB, 128 * KiB, MiB, 3 * MiB))
                    assert await w.content(nodes[name], size, at) == files_data(remote, name)[at : at + size]
                    at = min(at + size, 9 * MiB)

            async with trio.open_nursery() as nursery:
                for seed in range(8):
                    nursery.start_soon(reader, seed)
            assert w.fetcher.bypass.held <= bypass.MEMORY


def files_data(remote: FakeRemote, name: str) -> bytes:
    return remote.files[name].data


def test_the_constants_fit_each_other() -> None:
    """A window holds a read, what lies behind it, and what is read ahead."""
    sizes: Iterable[int] = (stream.BEHIND, stream.READ, stream.AHEAD)
    assert sum(sizes) <= stream.WINDOW
    assert 32 * MiB >= bypass.MEMORY


async def test_what_is_here_is_read_although_there_is_no_room_to_begin_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fill may be under way of a file that is complete: the index had no room to say that either."""
    remote = FakeRemote({"a": Source(DATA[:MiB])})
    async with opened(tmp_path / "cache", remote) as w:
        node = await w.node("a")
        await w.fetcher.whole(node)
        await w.cache.objects.sync()
        remote.fault = OriginFailed("away")

        async def refuse(_objects: Objects, _node: Node) -> None:
            raise CacheFull("no room")

        monkeypatch.setattr(Objects, "begin", refuse)
        fill = w.fetcher.start(node, Priority.AHEAD)
        assert await w.content(await open_file(w)) == DATA[:MiB]
        await fill.whole(Priority.AHEAD)
        assert fill.found
