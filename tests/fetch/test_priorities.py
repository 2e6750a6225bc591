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


class Gate:
    """Holds answers back, until it is opened for one name or for all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._all = False
        self._names: set[str] = set()

    def open(self, name: str | None = None) -> None:
        with self._changed:
            if name is None:
                self._all = True
            else:
                self._names.add(name)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._all = False

    def before(self, name: str, body: bytes) -> Behaviour:
        """As it should be, once the gate is open."""

        def behave(seen: Seen, wire: Wire) -> None:
            if seen.method == "GET":
                with self._changed:
                    self._changed.wait_for(lambda: self._all or name in self._names, 20)
            good(body)(seen, wire)

        return behave


@asynccontextmanager
async def four_connections(folder: Path, gate: Gate) -> AsyncIterator[tuple[Engine, Hostile]]:
    """An engine that may have four, one of them for readers that wait."""
    names = [*SMALL, "large"]
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    listing = page(f"<html><title>Index of /</title><h1>Index of /</h1>{links}</html>")
    routes = {f"/{name}": gate.before(name, name.encode()) for name in SMALL}
    with hostile({"/": listing, **routes, "/large": gate.before("large", BODY)}) as server:
        async with open_engine(
            server.url, folder, ttl=60.0, deadline=30.0, traffic=Traffic(connections=4)
        ) as engine:
            await engine.namespace.check_source()
            try:
                yield engine, server
            finally:
                gate.open()


async def file(engine: Engine, name: str) -> Node:
    return await engine.namespace.fresh(await engine.namespace.lookup(engine.namespace.root.id, name))


def requests(server: Hostile) -> list[Seen]:
    """Those for bytes of files, as they arrived."""
    return [seen for seen in server.seen if seen.method == "GET" and seen.path != "/"]


def asked(server: Hostile) -> list[str]:
    return [seen.path[1:] for seen in requests(server)]


async def until(look: Callable[[], bool]) -> None:
    """Look until it is so: the server is another thread's."""
    with trio.fail_after(20):
        while not look():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_readers_go_before_read_ahead_and_read_ahead_before_warming(tmp_path: Path) -> None:
    """A mount warms what is pinned in the same process: its readers do not feel it."""
    gate = Gate()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == 3)
        for name in SMALL[8:10]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.AHEAD)
        await until(lambda: engine.fetcher.running == 10)
        nursery.start_soon(engine.fetcher.missing, await file(engine, "d"), Priority.DEMAND)
        await until(lambda: len(asked(server)) == 4)
        assert asked(server)[3] == "d"
        gate.open("d")  # one connection stays free for the next reader
        # One after the other: what is sent on two connections at once arrives in any order.
        for number, name in enumerate(asked(server)[:3]):
            gate.open(name)
            await until(lambda: len(asked(server)) == 5 + number)  # noqa: B023
        assert set(asked(server)[4:6]) == {"a0", "a1"}
        gate.open()
        await until(lambda: len(asked(server)) == len(SMALL))


async def test_what_somebody_begins_to_wait_for_moves_to_the_front(tmp_path: Path) -> None:
    gate = Gate()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == 3)
        last = next(name for name in SMALL[7::-1] if name not in asked(server))
        nursery.start_soon(engine.fetcher.missing, await file(engine, last), Priority.DEMAND)
        await until(lambda: len(asked(server)) == 4)
        assert asked(server)[3] == last
        gate.open()


async def test_a_reader_of_a_large_file_that_is_warmed_gets_its_bytes_first(tmp_path: Path) -> None:
    """Beside its parts, and beside everything else that is warmed."""
    gate = Gate()
    async with four_connections(tmp_path, gate) as (engine, server), trio.open_nursery() as nursery:
        large = await file(engine, "large")
        gate.open()
        assert await engine.fetcher.read(large, 0, 1000) == BODY[:1000]  # the origin has ranges
        await engine.fetcher.whole(large)
        await engine.cache.objects.drop(large)
        gate.close()
        before = len(asked(server))
        nursery.start_soon(engine.fetcher.missing, large, Priority.WARM)
        for name in SMALL[:8]:
            nursery.start_soon(engine.fetcher.missing, await file(engine, name), Priority.WARM)
        await until(lambda: len(asked(server)) == before + 3)
        got: list[bytes | bytearray] = []

        async def read() -> None:
            got.append(await engine.fetcher.read(large, 30 * MiB, 1000))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        gate.open("large")
        await until(lambda: bool(got))
        assert got == [BODY[30 * MiB : 30 * MiB + 1000]]
        # The first answer says that there are ranges; then it is the reader's turn.
        after = requests(server)[before + 3]
        assert (after.path, after.range) == ("/large", (30 * MiB, 32 * MiB))
        gate.open()
