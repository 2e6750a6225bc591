"""The row about the event loop: how long it is busy or blocked beside 32 fills.

In one process, as in a worker: 32 tasks fetch large files and 4 fetch small ones from nginx into a cache
that holds a few of them, so that every fill evicts others, and look-ups go on all the time. An instrument
measures every step of every task: by the wall, less the time that the thread was ready to run and had
no processor. What is left is ours: computing, waiting for a lock, for the interpreter or for the disk.

How late a task is that only sleeps is noted as well, without and with the fills: on a machine that
others use, that says more about them.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from cache import Node
from cache.limits import Amount, Limits
from mirror.engine import Engine, open_engine
from mirror.fetch import Priority
from mirror.steady import keep_steps_short
from tests.bench.measure import OURS, REFERENCE, Result, Row
from tests.bench.stand import Stand
from tests.support.data import MiB, noise
from tests.support.servers import nginx

STEP = Row("loop_step", "event loop beside 32 fills, 99.9th percentile", "1 ms", "ms", 5, 2, absolute=True)

ROWS = (STEP,)

_LARGE, _LARGE_BYTES = 64, 16 * MiB
_SMALL, _SMALL_BYTES = 2000, 100_000
_CAPACITY = 400 * MiB
"""Bytes that the cache may hold: a little more than what is being filled."""
_FILLS = 32
_SMALL_FILLS = 4
_IDLE_SECONDS = 3.0
_TICK = 0.001
_PAUSE = 0.0005


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the row, if it is wanted."""
    if STEP.key not in wanted:
        return
    keep_steps_short()
    origin = stand.folder / "loop-origin"
    _origin(origin)
    with nginx(origin, autoindex="json") as server:
        rounds = [
            trio.run(_round, server.url, stand.folder / "loop-cache", stand.scale.loop_seconds)
            for _ in range(stand.scale.cold_rounds)
        ]
    ours = [_at(steps.ours, 0.999) for steps, _, _ in rounds]
    notes: dict[str, object] = {
        "longest": [max(steps.ours) for steps, _, _ in rounds],
        "over_5_ms": [sum(step > 5 for step in steps.ours) for steps, _, _ in rounds],
        "longest_of_the_processor": [max(steps.processor) for steps, _, _ in rounds],
        "steps": [len(steps.ours) for steps, _, _ in rounds],
        "late_idle": [{part: _at(late, part) for part in (0.5, 0.999, 1)} for _, late, _ in rounds],
        "late": [{part: _at(late, part) for part in (0.5, 0.999, 1)} for _, _, late in rounds],
    }
    yield Result(STEP, {OURS: ours, REFERENCE: [1.0] * len(ours)}, notes)


def _origin(root: Path) -> None:
    block = noise("loop", _LARGE_BYTES)
    for folder, count, size in (("large", _LARGE, _LARGE_BYTES), ("small", _SMALL, _SMALL_BYTES)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number:05d}.bin").write_bytes(block[:size])


class _Steps(trio.abc.Instrument):
    """The length of every step, in milliseconds."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.processor: list[float] = []
        self._schedule = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._began: tuple[float, float, float] | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = self._waited(), time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began is None:  # put in during this step
            return
        waited, wall, processor = self._began
        self.processor.append((time.thread_time() - processor) * 1e3)
        self.ours.append((time.perf_counter() - wall - (self._waited() - waited)) * 1e3)

    def _waited(self) -> float:
        """Seconds that this thread was ready and had no processor."""
        return int(os.pread(self._schedule, 100, 0).split()[1]) / 1e9

    def close(self) -> None:
        os.close(self._schedule)


async def _round(url: str, folder: Path, seconds: float) -> tuple[_Steps, list[float], list[float]]:
    idle: list[float] = []
    with trio.move_on_after(_IDLE_SECONDS):
        await _tick(idle)
    late: list[float] = []
    steps = _Steps()
    async with open_engine(url, folder, ttl=float("inf"), deadline=30.0) as engine:
        await engine.cache.space.set_limits(Limits(Amount.parse(str(_CAPACITY)), None))
        await engine.namespace.check_source()
        folders = {node.name: node.id for node in engine.namespace.children(engine.namespace.root.id)}
        for node in folders.values():
            await engine.namespace.listed(node)
        large, small = (engine.cache.tree.children(folders[name], limit=-1) for name in ("large", "small"))
        trio.lowlevel.add_instrument(steps)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tick, late)
                nursery.start_soon(_look_up, engine, small)
                for number in range(_FILLS):
                    nursery.start_soon(_fetch, engine, large[number::_FILLS])
                for number in range(_SMALL_FILLS):
                    nursery.start_soon(_fetch, engine, small[number::_SMALL_FILLS])
        trio.lowlevel.remove_instrument(steps)
    steps.close()
    shutil.rmtree(folder)
    return steps, sorted(idle), sorted(late)


async def _tick(late: list[float]) -> None:
    """Note how many milliseconds late a sleep ends."""
    while True:
        began = time.perf_counter()
        await trio.sleep(_TICK)
        late.append((time.perf_counter() - began - _TICK) * 1e3)


async def _look_up(engine: Engine, nodes: Sequence[Node]) -> None:
    choice = random.Random(1)
    while True:
        node = choice.choice(nodes)
        assert (await engine.namespace.lookup(node.parent, node.name)).id == node.id
        await trio.sleep(_PAUSE)


async def _fetch(engine: Engine, nodes: Sequence[Node]) -> None:
    """Fetch files round and round: each was evicted before its next turn."""
    while True:
        for node in nodes:
            await engine.fetcher.whole(node, Priority.DEMAND)
            await trio.lowlevel.checkpoint()


def _at(figures: Sequence[float], part: float) -> float:
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
