"""Rows about a cache of 1,000,000 files: what must not grow with it.

Mounting is compared with mounting over an empty cache; the other figures are absolute, and the reference of
each is 1 of its unit. Look-ups, disk and eviction are measured on the cache itself, in this process;
mounting, listing and memory on real mounts.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from cache import Cache, Node
from cache.index import NAME
from mirror.namespace import Namespace
from mirror.remotes import How, open_remote
from mirror.retry import Schedule
from tests.bench import million
from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.memory import pss
from tests.bench.million import FOLDER, Million, file_name, folder_name
from tests.bench.stand import Scale, Stand
from tests.support.data import MiB
from tests.support.mounts import Mount, mounted
from tests.support.servers import Server, nginx

T = TypeVar("T")

GROUP = "million"
"""All rows of this module, for ``--only``."""

MOUNT = Row("million_mount", "mounting a cache of 1,000,000 files", "an empty cache", "s", 1.3, 1.05)
LIST = Row("million_list", "first ls -l of a folder of 10,000 in it", "1 s", "s", 1, 0.5, absolute=True)
LOOKUP = Row("million_lookup", "look-up in it, 99.9th percentile", "1 ms", "ms", 1, 0.2, absolute=True)
DISK = Row("million_disk", "disk for an entry of it", "1 B", "B", 1024, 300, absolute=True)
MEMORY = Row("million_memory", "growth of the worker that walks it", "1 MiB", "MiB", 100, 50, absolute=True)
EVICT = Row("million_evict", "choosing 64 MiB to evict from it", "1 ms", "ms", 250, 50, absolute=True)

ROWS = (MOUNT, LIST, LOOKUP, DISK, MEMORY, EVICT)

_LOOKUPS = 50_000
_WALKED = 10
"""Folders whose entries are all looked at by the row about memory."""
_SCATTERED = 5_000
"""Files all over that are looked up besides."""
_FOREVER = ("--ttl", "inf")
"""Nothing is asked of the origin, which has none of these files."""


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the rows of this module that are wanted."""
    if not wanted & {row.key for row in ROWS}:
        return
    scale = stand.scale
    root = stand.folder / "million-origin"
    million.origin(root, scale.folders)
    with (
        nginx(root, autoindex="json") as server,
        million.copy(stand.folder.parent, stand.folder, scale.folders, server.url) as cache,
    ):
        for row in ROWS:
            if row.key in wanted:
                yield _MEASURES[row.key](scale, server, cache)


def _result(row: Row, samples: list[float], notes: dict[str, object]) -> Result:
    return Result(row, {OURS: samples, REFERENCE: [1.0] * len(samples)}, notes)


# -- on mounts -----------------------------------------------------------------------------------


def _mount(scale: Scale, server: Server, cache: Million) -> Result:
    def one(folder: Path | None) -> float:
        began = time.perf_counter()
        with mounted(server.url, cache=folder) as mount:
            seconds = time.perf_counter() - began
            assert len(os.listdir(mount.path)) == scale.folders  # noqa: PTH208 - as `ls` does
        return seconds

    return Result(
        MOUNT, take_turns(scale.cold_rounds, {OURS: lambda: one(cache.cache), REFERENCE: lambda: one(None)})
    )


def _list(scale: Scale, server: Server, cache: Million) -> Result:
    def one(*args: str) -> float:
        with mounted(server.url, cache=cache.cache, args=args) as mount:
            return _walk(mount, 0)

    # Under the default TTL the origin is asked for the listing again, whose names are all known.
    asked = [one() for _ in range(scale.cold_rounds)]
    known = [one(*_FOREVER) for _ in range(scale.cold_rounds)]
    return _result(LIST, asked, {"within_the_ttl": statistics.median(known)})


def _walk(mount: Mount, number: int) -> float:
    began = time.perf_counter()
    with os.scandir(mount.path / folder_name(number)) as entries:
        sizes = [entry.stat().st_size for entry in entries]
    seconds = time.perf_counter() - began
    assert sizes == [million.SIZE] * FOLDER, f"{len(sizes)} entries"
    return seconds


def _memory(scale: Scale, server: Server, cache: Million) -> Result:
    with mounted(server.url) as mount:
        os.listdir(mount.path)  # noqa: PTH208
        before = pss(mount.worker_pid)
    with mounted(server.url, cache=cache.cache, args=_FOREVER) as mount:
        worker = mount.worker_pid
        mounted_ = pss(worker)
        for number in range(min(_WALKED, scale.folders)):
            _walk(mount, number)
        walked = pss(worker)
        for folder, name in _places(cache, _SCATTERED):
            assert (mount.path / folder / name).stat().st_size == million.SIZE
        after = pss(worker)
    notes: dict[str, object] = {"empty_cache": before, "mounted": mounted_, "walked": walked, "after": after}
    return _result(MEMORY, [after - before], notes)


def _places(cache: Million, count: int) -> Iterator[tuple[str, str]]:
    """Files all over the cache: folder and name."""
    choice = random.Random(1)
    for _ in range(count):
        yield folder_name(choice.randrange(cache.folders)), file_name(choice.randrange(FOLDER))


# -- on the cache --------------------------------------------------------------------------------


def _lookup(_: Scale, server: Server, cache: Million) -> Result:
    wall, cpu = trio.run(partial(_with_cache, cache, partial(_look_up, server.url, cache)))
    notes: dict[str, object] = {"median": _at(wall, 0.5), "slowest": wall[-1], "wall": _at(wall, 0.999)}
    # Of the processor: whoever else uses it is no part of a look-up.
    return _result(LOOKUP, [_at(cpu, 0.999)], notes)


async def _look_up(url: str, million_: Million, cache: Cache) -> tuple[list[float], list[float]]:
    """Milliseconds of many look-ups, and of the processor for each; both sorted."""
    root = await cache.tree.root(url)
    remote = open_remote(url, How(deadline=5.0))
    namespace = Namespace(cache.tree, remote, root, ttl=float("inf"), schedule=Schedule(deadline=5.0))
    folders = {node.name: node.id for node in cache.tree.children(root.id, limit=-1)}
    wall, cpu = [], []
    for folder, name in _places(million_, _LOOKUPS):
        began, ran = time.perf_counter(), time.thread_time()
        found = await namespace.lookup(folders[folder], name)
        cpu.append((time.thread_time() - ran) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
        assert found.size == million.SIZE
    await remote.aclose()
    return sorted(wall), sorted(cpu)


def _at(figures: list[float], part: float) -> float:
    return figures[min(len(figures) - 1, int(len(figures) * part))]


def _disk(_: Scale, __: Server, cache: Million) -> Result:
    used = sum(path.stat().st_blocks * 512 for path in cache.cache.glob(f"{NAME}*"))
    return _result(DISK, [used / cache.files], {"bytes": used})


def _evict(scale: Scale, _: Server, cache: Million) -> Result:
    chosen, notes = trio.run(partial(_with_cache, cache, partial(_choose, scale.cold_rounds)))
    return _result(EVICT, chosen, notes)


async def _choose(rounds: int, cache: Cache) -> tuple[list[float], dict[str, object]]:
    eviction = cache.objects.eviction
    occupied = cache.space.room().occupied

    async def choose() -> None:
        chosen = await trio.to_thread.run_sync(eviction._chosen, 64 * MiB, occupied, set())
        assert sum(million.OCCUPIED for _ in chosen) >= 64 * MiB

    async def due() -> None:
        assert await cache.verification.due(time.time()) is not None

    async def evict() -> None:
        assert await eviction.free(64 * MiB) >= 64 * MiB

    chosen = [await _timed(choose) for _ in range(rounds)]
    root = cache.tree.children(0)[0]
    folders = cache.tree.children(root.id)[:rounds]
    notes: dict[str, object] = {
        "evicted": [await _timed(evict) for _ in range(rounds)],
        "scrub_finds_next": [await _timed(due) for _ in range(rounds)],
        "children": [await _timed(partial(_children, cache, folder)) for folder in folders],
    }
    await cache.pins.add(root.id, [f"{folder_name(1)}/**", "**/*0.bin"])
    notes["chosen_beside_pins"] = [await _timed(choose) for _ in range(rounds)]
    return chosen, notes


async def _children(cache: Cache, folder: Node) -> None:
    assert len(cache.tree.children(folder.id, limit=-1)) == FOLDER


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e3


async def _with_cache(where: Million, work: Callable[[Cache], Awaitable[T]]) -> T:
    async with Cache.open(where.cache) as cache:
        return await work(cache)


_MEASURES: dict[str, Callable[[Scale, Server, Million], Result]] = {
    MOUNT.key: _mount,
    LIST.key: _list,
    LOOKUP.key: _lookup,
    DISK.key: _disk,
    MEMORY.key: _memory,
    EVICT.key: _evict,
}
