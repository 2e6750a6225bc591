"""How much of a large file is fetched because somebody reads some of it: counted at the origin."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cache import Node
from mirror.config import FetchMode
from mirror.engine import Engine, open_engine
from mirror.fetch import fill
from mirror.fetch.appetite import MOST_AHEAD, RUN, Appetite
from tests.support.data import KiB, MiB, noise
from tests.support.servers import Server, nginx

SIZE = 64 * MiB
BODY = noise("appetite", 16 * MiB) * 4


@asynccontextmanager
async def mirrored(
    folder: Path, mode: FetchMode, *, whole_up_to: int = MiB
) -> AsyncIterator[tuple[Engine, Node, Server]]:
    """An engine over an origin with one large file."""
    (folder / "origin").mkdir()
    (folder / "origin" / "f").write_bytes(BODY)
    with nginx(folder / "origin") as server:
        cache = folder / "cache"
        async with open_engine(
            server.url, cache, ttl=60.0, deadline=30.0, fetch=mode, whole_up_to=whole_up_to
        ) as engine:
            await engine.namespace.check_source()
            node = await engine.namespace.lookup(engine.namespace.root.id, "f")
            yield engine, node, server


async def until(look: Callable[[], bool]) -> None:
    """Look until it is so: nothing tells a test when a fill ends that nobody waits for."""
    with trio.fail_after(30):
        while not look():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def read(engine: Engine, node: Node, at: int, size: int) -> None:
    assert await engine.fetcher.read(node, at, size) == BODY[at : at + size]


async def test_a_random_reader_has_only_what_it_reads_fetched(tmp_path: Path) -> None:
    """Until that is a tenth of the file: then it gets all of it."""
    choice = random.Random(1)
    async with mirrored(tmp_path, FetchMode.AUTO) as (engine, node, _):
        for _ in range(40):
            await read(engine, node, choice.randrange(SIZE // 65536) * 65536, 4 * KiB)
        assert engine.fetcher.bytes_fetched <= 40 * 64 * KiB * 2
        assert not engine.cache.objects.state(node).complete
        while not engine.cache.objects.state(node).complete:
            with trio.fail_after(30):
                await read(engine, node, choice.randrange(SIZE // 65536) * 65536, 64 * KiB)
                await trio.lowlevel.checkpoint()


async def test_a_reader_that_goes_forward_has_all_of_it_fetched(tmp_path: Path) -> None:
    async with mirrored(tmp_path, FetchMode.AUTO) as (engine, node, _):
        for at in range(0, RUN + 2 * MiB, MiB):
            await read(engine, node, at, MiB)
        await until(lambda: engine.cache.objects.state(node).complete)


async def test_touched_fetches_what_is_read_and_a_little_ahead(tmp_path: Path) -> None:
    async with mirrored(tmp_path, FetchMode.TOUCHED) as (engine, node, server):
        for at in range(0, 16 * MiB, MiB):
            await read(engine, node, at, MiB)
        await trio.sleep(0.2)
        assert engine.fetcher.bytes_fetched <= 16 * MiB + MOST_AHEAD + MiB
        assert sum(request.sent for request in server.requests() if request.uri == "/f") <= 48 * MiB


async def test_whole_fetches_all_at_the_first_read(tmp_path: Path) -> None:
    async with mirrored(tmp_path, FetchMode.WHOLE) as (engine, node, _):
        await read(engine, node, 40 * MiB, 4 * KiB)
        await until(lambda: engine.cache.objects.state(node).complete)


async def test_a_small_file_is_fetched_whole_in_every_mode(tmp_path: Path) -> None:
    async with mirrored(tmp_path, FetchMode.TOUCHED, whole_up_to=SIZE) as (engine, node, _):
        await read(engine, node, 40 * MiB, 4 * KiB)
        await until(lambda: engine.cache.objects.state(node).complete)


async def test_whoever_wants_all_of_it_gets_it(tmp_path: Path) -> None:
    """Warming, pinning, an open that waits: also while a random reader has only some of it fetched."""
    async with mirrored(tmp_path, FetchMode.TOUCHED) as (engine, node, _):
        await read(engine, node, 40 * MiB, 4 * KiB)
        with trio.fail_after(30):
            await engine.fetcher.whole(node)
        assert engine.cache.objects.state(node).complete


async def test_what_nobody_reads_any_more_is_put_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came stays, and the next reader goes on with it."""
    monkeypatch.setattr(fill, "IDLE", 0.2)
    async with mirrored(tmp_path, FetchMode.TOUCHED) as (engine, node, server):
        await read(engine, node, 40 * MiB, 4 * KiB)
        await until(lambda: not engine.fetcher.running)
        assert engine.fetcher.counters.fills_failed == 0
        before = len(server.requests())
        await read(engine, node, 40 * MiB, 4 * KiB)
        assert len(server.requests()) == before


async def test_two_processes_that_read_here_and_there_do_not_starve_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has the file; the other is served past the cache, and whoever wants all of it gets its turn."""
    monkeypatch.setattr(fill, "IDLE", 0.3)
    choice = random.Random(2)
    async with mirrored(tmp_path, FetchMode.TOUCHED) as (engine, node, server):
        await read(engine, node, 0, 4 * KiB)
        cache = tmp_path / "cache"
        async with open_engine(server.url, cache, ttl=60.0, deadline=30.0, fetch=FetchMode.TOUCHED) as other:
            await other.namespace.check_source()
            with trio.fail_after(30):
                await read(other, node, 50 * MiB, 4 * KiB)

            async def keep_reading(cancel: trio.CancelScope) -> None:
                with cancel:
                    while True:
                        await read(engine, node, choice.randrange(SIZE // 4096) * 4096, 4 * KiB)
                        await trio.sleep(0.005)

            async with trio.open_nursery() as nursery:
                reading = trio.CancelScope()
                nursery.start_soon(keep_reading, reading)
                with trio.fail_after(30):
                    await other.fetcher.whole(node)
                reading.cancel()


def test_what_is_wanted_is_what_is_missing_of_what_is_read() -> None:
    appetite = Appetite(FetchMode.TOUCHED)
    missing = [(0, 100), (200, 1000)]
    assert appetite.wanted(missing, [(50, 60), (55, 70), (190, 210)], cursor=0, least=10) == [
        (50, 70),
        (200, 210),
    ]
    assert appetite.wanted(missing, [], cursor=300, least=10) == []
    appetite.read(0, 300)
    appetite.read(300, 320)
    assert appetite.wanted(missing, [], cursor=320, least=10) == [(320, 620)]
