"""Small files that are fetched many at once: as right as one by one, and none in another one's way."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from cache import Cache, Node
from cache._files import store
from cache.limits import Amount, Limits
from mirror.engine import Engine, open_engine
from mirror.errors import MirrorError, NotFound, Stalled, VersionChanged
from mirror.fetch import Fetcher, Fill, Lane, Priority
from mirror.traffic import Traffic
from tests.cache.support import read_all
from tests.fetch.test_priorities import Gate, asked, file, until
from tests.support.certificates import certificate
from tests.support.data import KiB, noise
from tests.support.filesystems import held_up
from tests.support.hostile import Behaviour, Hostile, good, hostile, page, stalls, status
from tests.support.servers import nginx

BODIES = {f"{number:03d}": noise(("small", number), 1 + number * 700) for number in range(200)}


@asynccontextmanager
async def serving(
    folder: Path,
    routes: dict[str, Behaviour],
    *,
    deadline: float = 20.0,
    connections: int = 16,
    completed: Callable[[Node, int], None] | None = None,
) -> AsyncIterator[tuple[Engine, Hostile]]:
    """An engine of a server with so many files in one folder."""
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in routes)
    listing = page(f"<html><title>Index of /</title><h1>Index of /</h1>{links}</html>")
    with hostile({"/": listing, **{f"/{name}": behave for name, behave in routes.items()}}) as server:
        traffic = Traffic(connections=connections)
        async with open_engine(
            server.url, folder, ttl=60.0, deadline=deadline, traffic=traffic, completed=completed
        ) as engine:
            await engine.namespace.check_source()
            yield engine, server


def alone(monkeypatch: pytest.MonkeyPatch) -> list[Fill]:
    """Fills that have a task of their own."""
    found: list[Fill] = []
    run = Fill.run

    async def noted(fill: Fill, *args: object) -> None:
        found.append(fill)
        await run(fill, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Fill, "run", noted)
    return found


async def came(engine: Engine, fill: Fill) -> bytes:
    await fill.whole(Priority.WARM)
    return read_all(engine.cache.objects.open_complete(fill.node))


def begin(fetcher: Fetcher, nodes: list[Node], lane: Lane | None = None) -> list[Fill]:
    return [fetcher.start(node, Priority.WARM, lane=lane) for node in nodes]


@pytest.mark.parametrize("tls", [False, True])
async def test_nearly_none_needs_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    """Over TLS too, and at a real server: all bytes are right, and none comes twice."""
    (tmp_path / "root").mkdir()
    for name, body in BODIES.items():
        (tmp_path / "root" / name).write_bytes(body)
    cert = certificate(tmp_path, "IP:127.0.0.1") if tls else None
    if cert is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert[0]))
    tasks = alone(monkeypatch)
    with nginx(tmp_path / "root", tls=cert) as server:
        async with open_engine(server.url, tmp_path / "cache", ttl=60.0, deadline=20.0) as engine:
            await engine.namespace.check_source()
            nodes = [await file(engine, name) for name in BODIES]
            fills = begin(engine.fetcher, nodes)
            for fill, body in zip(fills, BODIES.values(), strict=True):
                assert await came(engine, fill) == body
            assert engine.fetcher.bytes_fetched == sum(map(len, BODIES.values()))
        assert sorted(r.uri for r in server.requests() if r.method == "GET" and r.uri != "/") == [
            f"/{name}" for name in BODIES
        ]
    # Those that made the connections.
    assert 0 < len(tasks) < len(BODIES) / 4


@asynccontextmanager
async def showing(folder: Path, names: Iterable[str], *, deadline: float = 20.0) -> AsyncIterator[Engine]:
    """An engine of a folder with so many files in it."""
    (folder / "root").mkdir()
    for name in names:
        (folder / "root" / name).write_bytes(BODIES[name])
    async with open_engine(f"file://{folder}/root/", folder / "cache", ttl=60.0, deadline=deadline) as engine:
        await engine.namespace.check_source()
        yield engine


async def test_nearly_none_of_a_folder_needs_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are right, and none is read twice."""
    tasks = alone(monkeypatch)
    async with showing(tmp_path, BODIES) as engine:
        nodes = [await file(engine, name) for name in BODIES]
        before = engine.remote.requests
        for fill, body in zip(begin(engine.fetcher, nodes), BODIES.values(), strict=True):
            assert await came(engine, fill) == body
        assert engine.fetcher.bytes_fetched == sum(map(len, BODIES.values()))
        assert engine.remote.requests - before == len(BODIES)
    # Those that came before there was room for them.
    assert len(tasks) < len(BODIES) / 4


async def test_a_file_of_a_folder_that_is_held_up_holds_up_no_other(tmp_path: Path) -> None:
    """It is waited for until the deadline; at the end of it all, what is under way is left as it is."""
    names = list(BODIES)[:40]
    with ExitStack() as stack:
        async with showing(tmp_path, names, deadline=0.5) as engine:
            nodes = [await file(engine, name) for name in names]
            for name in ("007", "039"):
                stack.enter_context(held_up(tmp_path / "root" / name))
            fills = begin(engine.fetcher, nodes[:39], Lane())
            with trio.fail_after(20.0):
                for name, fill in zip(names, fills, strict=False):
                    if name == "007":
                        with pytest.raises(MirrorError):
                            await fill.whole(Priority.WARM)
                    else:
                        assert await came(engine, fill) == BODIES[name]
                before = engine.remote.requests
                last = engine.fetcher.start(nodes[39], Priority.WARM)
                await until(lambda: engine.remote.requests > before)
    assert last.error is not None


async def test_of_a_lane_one_is_asked_for_at_a_time_and_whoever_waits_does_not(tmp_path: Path) -> None:
    gate = Gate()
    names = [str(number) for number in range(8)]
    routes = {name: gate.before(name, name.encode()) for name in names}
    async with serving(tmp_path, routes) as (engine, server):
        try:
            nodes = [await file(engine, name) for name in names]
            fills = begin(engine.fetcher, nodes, Lane())
            await until(lambda: asked(server) == ["0"])
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert asked(server) == ["0"]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.fetcher.read, nodes[6], 0, 1)
                await until(lambda: asked(server) == ["0", "6"])
                gate.open()
            for name, fill in zip(names, fills, strict=True):
                assert await came(engine, fill) == name.encode()
            assert asked(server) == ["0", "6", "1", "2", "3", "4", "5", "7"]
        finally:
            gate.open()


async def test_one_that_fails_is_one_that_fails(tmp_path: Path) -> None:
    """What is gone, another version, and a server that breaks off: the others do not hear of it."""
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:20]}
    async with serving(tmp_path, routes) as (engine, server):
        nodes = {name: await file(engine, name) for name in routes}
        server.routes |= {"/003": status(404), "/007": good(b"another", etag='"two"')}  # type: ignore[operator]
        lane = Lane()
        for name, fill in zip(nodes, begin(engine.fetcher, list(nodes.values()), lane), strict=True):
            match name:
                case "003":
                    with pytest.raises(NotFound):
                        await fill.whole(Priority.WARM)
                case "007":
                    with pytest.raises(VersionChanged):
                        await fill.whole(Priority.WARM)
                case _:
                    assert await came(engine, fill) == BODIES[name]
        assert engine.fetcher.running == 0


async def test_an_answer_that_does_not_come_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[100:120]}
    async with serving(tmp_path, routes, deadline=0.5) as (engine, server):
        nodes = {name: await file(engine, name) for name in routes}
        for silent in ("105", "110"):
            server.routes[f"/{silent}"] = stalls(BODIES[silent], 0 if silent == "105" else 100)  # type: ignore[index]
        fills = dict(zip(nodes, begin(engine.fetcher, list(nodes.values())), strict=True))
        with trio.fail_after(20.0):
            for name, fill in fills.items():
                if name in ("105", "110"):
                    with pytest.raises((Stalled, MirrorError)):
                        await fill.whole(Priority.WARM)
                else:
                    assert await came(engine, fill) == BODIES[name]


async def test_the_end_gives_every_lease_back(tmp_path: Path) -> None:
    """In whatever state they are: asked for, leased, or waiting for their turn."""
    gate = Gate()
    names = [str(number) for number in range(100)]
    routes = {name: gate.before(name, name.encode()) for name in names}
    async with serving(tmp_path, routes) as (engine, server):
        nodes = [await file(engine, name) for name in names]
        begin(engine.fetcher, nodes[:50], Lane())
        fills = begin(engine.fetcher, nodes[50:])
        await until(lambda: len(asked(server)) > 10)
        async with Cache.open(engine.cache.path) as other:
            assert other.objects.fill(nodes[0]) is None
        gate.open()
    assert all(fill.error is not None or fill.state.name == "COMPLETE" for fill in fills)
    async with Cache.open(tmp_path) as cache:
        for node in nodes:
            filler = cache.objects.fill(node)
            if filler is None:
                assert cache.objects.state(node).complete
            else:
                filler.discard()


async def test_what_another_process_fills_is_followed_and_holds_up_no_other(tmp_path: Path) -> None:
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:20]}
    async with serving(tmp_path, routes) as (engine, server), Cache.open(tmp_path) as other:
        nodes = [await file(engine, name) for name in routes]
        filler = other.objects.fill(nodes[4])
        assert filler is not None
        fills = begin(engine.fetcher, nodes, Lane())
        for name, fill in zip(routes, fills, strict=True):
            if name != "004":
                assert await came(engine, fill) == BODIES[name]
        assert not [name for name in asked(server) if name == "004"]
        filler.write(0, BODIES["004"])
        with open(filler.complete(), "rb") as completed:  # noqa: PTH123 - a descriptor
            assert completed.read() == BODIES["004"]
        await fills[4].whole(Priority.WARM)
        assert fills[4].found


async def test_room_is_made_for_them(tmp_path: Path) -> None:
    """In a cache that holds a few of them."""
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[100:]}
    async with serving(tmp_path, routes) as (engine, _server):
        await engine.cache.space.set_limits(Limits(Amount(bytes=1024 * KiB), Amount(bytes=0)))
        nodes = [await file(engine, name) for name in routes]
        for at in range(0, len(nodes), 10):
            for fill in begin(engine.fetcher, nodes[at : at + 10], Lane()):
                await fill.whole(Priority.WARM)
        used = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("objects/*/*"))
        assert 512 * KiB < used <= 1024 * KiB


async def test_what_could_not_be_written_is_fetched_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is fuller than anybody knew: the fill by itself makes room, if there is any to make."""
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:20]}
    storing, refused = Fill.storing, set()

    def full_at_first(fill: Fill, body: memoryview, *, wanted: bool) -> object:
        if fill.path in refused:
            return storing(fill, body, wanted=wanted)
        refused.add(fill.path)
        return store(full.fileno(), 0, 4096, [body])

    monkeypatch.setattr(Fill, "storing", full_at_first)
    with Path("/dev/full").open("wb", buffering=0) as full:
        async with serving(tmp_path, routes) as (engine, server):
            (first, *nodes) = [await file(engine, name) for name in routes]
            await engine.fetcher.whole(first)  # leaves a connection
            for name, fill in zip(list(routes)[1:], begin(engine.fetcher, nodes, Lane()), strict=True):
                assert await came(engine, fill) == BODIES[name]
            for name in routes:
                assert asked(server).count(name) == (2 if name in refused else 1)
    assert refused


async def test_each_is_handed_over_open_to_who_wants_that(tmp_path: Path) -> None:
    """Once, with all its bytes; where nobody does, none is opened."""
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:30]}
    came: dict[str, bytes] = {}

    def completed(node: Node, fd: int) -> None:
        assert node.name not in came
        came[node.name] = os.pread(fd, 1 << 20, 0)

    for wanted in (completed, None):
        folder = tmp_path / f"{wanted is not None}"
        folder.mkdir()
        before = len([*Path("/proc/self/fd").iterdir()])
        async with serving(folder, routes, completed=wanted) as (engine, _server):
            nodes = [await file(engine, name) for name in routes]
            for fill in begin(engine.fetcher, nodes, Lane()):
                await fill.whole(Priority.WARM)
            await engine.cache.objects.sync()
            assert all(engine.cache.objects.state(node).complete for node in nodes)
            # Connections of one lane, threads and the index have some.
            assert len([*Path("/proc/self/fd").iterdir()]) - before < len(nodes)
        assert came == {name: BODIES[name] for name in routes}


async def test_a_slot_that_comes_at_once_is_one_that_came(tmp_path: Path) -> None:
    """Beside somebody who waits, and is less urgent: each time anew."""
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:6]}
    async with serving(tmp_path, routes, connections=4) as (engine, _server), trio.open_nursery() as nursery:
        nodes = [await file(engine, name) for name in routes]
        held = trio.Event()

        async def hold() -> None:
            async with engine.fetcher.connection(Priority.WARM):
                await held.wait()

        for _ in range(4):  # one more than may be held for that
            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(10.0):
            for name, node in zip(routes, nodes, strict=True):
                assert await engine.fetcher.read(node, 0, 1 << 20) == BODIES[name]
        held.set()


async def test_slots_that_come_together_go_to_the_most_urgent(tmp_path: Path) -> None:
    """Small files wait among all others, each by itself."""
    gate = Gate()
    names = ["0", "1"]
    routes = {name: gate.before(name, name.encode()) for name in names}
    async with serving(tmp_path, routes, connections=4) as (engine, server), trio.open_nursery() as nursery:
        nodes = [await file(engine, name) for name in names]
        ended, got = trio.Event(), []

        async def hold(number: int) -> None:
            async with engine.fetcher.connection(Priority.WARM):
                got.append(number)
                await (ended if number < 2 else trio.Event()).wait()

        try:
            for number in range(5):  # two more than may be held for that
                nursery.start_soon(hold, number)
                await trio.testing.wait_all_tasks_blocked()
            assert got == [0, 1, 2]
            fills = [engine.fetcher.start(node, Priority.AHEAD) for node in nodes]
            await until(lambda: all(fill.leased for fill in fills))
            await trio.testing.wait_all_tasks_blocked()
            assert not asked(server)
            ended.set()
            await until(lambda: sorted(asked(server)) == names)
            assert got == [0, 1, 2]
        finally:
            gate.open()
        for name, fill in zip(names, fills, strict=True):
            assert await came(engine, fill) == name.encode()
        nursery.cancel_scope.cancel()


async def test_one_connection_is_enough(tmp_path: Path) -> None:
    routes: dict[str, Behaviour] = {name: good(body) for name, body in list(BODIES.items())[:30]}
    async with serving(tmp_path, routes, connections=1) as (engine, server):
        nodes = [await file(engine, name) for name in routes]
        for name, fill in zip(routes, begin(engine.fetcher, nodes), strict=True):
            assert await came(engine, fill) == BODIES[name]
        assert server.connections == 1
