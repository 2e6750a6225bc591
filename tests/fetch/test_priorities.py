"""Who goes first when connections are few: over all that one process fetches, and within one file."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from cache import Node
from mirror.engine import Engine, open_engine
from mirror.fetch import Priority
from mirror.traffic import Traffic
from tests.support.data import MiB, noise
from tests.support.hostile import Behaviour, Hostile, Seen, Wire, good, hostile, page

BODY = noise("priorities", 32 * MiB)
SMALL = [f"w{number}" for number in range(8)] + ["a0", "a1", "d"]


def waiting(gate: threading.Event, body: bytes) -> Behaviour:
    """As it should be, once the gate is open."""

    def behave(seen: Seen, wire: Wire) -> None:
        if seen.method == "GET":
            gate.wait(20)
        good(body)(seen, wire)

    return behave


@asynccontextmanager
async def four_connections(folder: Path, gate: threading.Event) -> AsyncIterator[tuple[Engine, Hostile]]:
    """An engine that may have four, one of them for readers that wait."""
    names = [*SMALL, "large"]
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    listing = page(f"<html><title>Index of /</title><h1>Index of /</h1>{links}</html>")
    routes = {f"/{name}": waiting(gate, name.encode()) for name in SMALL}
    with hostile({"/": listing, **routes, "/large": waiting(gate, BODY)}) as server:
        async with open_engine(
            server.url, folder, ttl=60.0, deadline=30.0, traffic=Traffic(connections=4)
        ) as engine:
            await engine.namespace.check_source()
            try:
                yield engine, server
            finally:
                gate.set()


async def file(engine: Engine, name: str) -> Node:
    return await engine.namespace.fresh(await engine.namespace.lookup(engine.namespace.root.id, name))


def asked(server: Hostile) -> list[str]:
    return [seen.path[1:] for seen in server.seen if seen.method == "GET" and seen.path != "/"]


async def until(look: Callable[[], bool]) -> None:
    """Look until it is so: the server is another thread's."""
    with trio.fail_after(20):
        while not look():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_readers_go_before_read_ahead_and_read_ahead_before_warming(tmp_path: Path) -> None:
    """A mount warms what is pinned in the same process: its readers do not feel it."""
    gate = threading.Event()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == 3)
        for name in SMALL[8:10]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.AHEAD)
        nursery.start_soon(engine.fetcher.missing, await file(engine, "d"), Priority.DEMAND)
        await until(lambda: len(asked(server)) == 4)
        assert asked(server)[3] == "d"
        gate.set()
        await until(lambda: len(asked(server)) == len(SMALL))
        # Three connections become free together, and what is sent at once arrives in any order.
        assert {"a0", "a1"} < set(asked(server)[4:7])


async def test_what_somebody_begins_to_wait_for_moves_to_the_front(tmp_path: Path) -> None:
    gate = threading.Event()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == 3)
        last = next(name for name in SMALL[7::-1] if name not in asked(server))
        nursery.start_soon(engine.fetcher.missing, await file(engine, last), Priority.DEMAND)
        await until(lambda: len(asked(server)) == 4)
        assert asked(server)[3] == last
        gate.set()


async def test_a_reader_of_a_large_file_that_is_warmed_gets_its_bytes_first(tmp_path: Path) -> None:
    """Beside its parts, and beside everything else that is warmed."""
    gate = threading.Event()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        large = await file(engine, "large")
        gate.set()
        assert await engine.fetcher.read(large, 0, 1000) == BODY[:1000]  # the origin has ranges
        await engine.fetcher.whole(large)
        await engine.cache.objects.drop(large)
        gate.clear()
        before = len(asked(server))
        nursery.start_soon(engine.fetcher.missing, large, Priority.WARM)
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == before + 3)
        got: list[bytes | bytearray] = []

        async def read() -> None:
            got.append(await engine.fetcher.read(large, 30 * MiB, 1000))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.set()
        await until(lambda: bool(got))
        assert got == [BODY[30 * MiB : 30 * MiB + 1000]]
