"""A process that does with a cache all that can be done, to be recorded; run as a program.

``python -m tests.powercut.workload FOLDER SEED SESSION STEPS``: opens the cache (or what the session before
left of it), lists, fills in parts and out of order, completes, discards, drops, gives back, and ends by
closing the cache or by dying in the middle of it. It leaves words in the record: what the origin had
said, and what `Objects.sync` had promised to be safe.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sqlite3
import sys
from pathlib import Path
from typing import Any

import trio

from cache import Cache, Filler, Node, durability
from tests.powercut import world

_SHIM = ctypes.CDLL(None)


def mark(**words: object) -> None:
    _SHIM.powercut_mark(json.dumps(words).encode())


def hurry(chance: random.Random) -> None:
    """Have many barriers in a short record: what takes seconds or megabytes takes little of either."""
    durability.GATHER_SECONDS = 0.004
    durability.CHECKPOINT_SECONDS = 0.004
    durability.USED_SECONDS = 0.01
    durability.TOGETHER = chance.choice((1, 3, 100))
    pages = chance.choice((8, 30))
    real = sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*args, **kwargs)
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]


class Session:
    """One process's use of the cache."""

    def __init__(self, cache: Cache, chance: random.Random, listing: dict[str, int]) -> None:
        self._cache = cache
        self._chance = chance
        self._listing = listing
        self._nodes: list[Node] = []
        self._fillers: list[Filler] = []

    async def run(self, steps: int) -> None:
        await self._list()
        for _ in range(steps):
            await self._step()
            # Now and then the other threads get to work before the next step.
            await trio.sleep(self._chance.choice((0, 0, 0.002, 0.006)))

    def end(self) -> None:
        """Give back what is left, as somebody who closes a cache would."""
        for filler in self._fillers:
            filler.close()

    async def _step(self) -> None:
        chance = self._chance.random()
        if chance < 0.06:
            await self._another_version()
        elif chance < 0.12:
            await self._sync()
        elif self._fillers and chance < 0.75:
            self._fill_on(self._chance.choice(self._fillers))
        else:
            await self._begin(self._chance.choice(self._nodes))

    async def _list(self) -> None:
        mark(listing=self._listing)
        self._nodes = await world.list_again(self._cache, self._listing)

    async def _another_version(self) -> None:
        name = self._chance.choice(list(self._listing))
        version = self._listing[name]
        # Sometimes an earlier one comes back.
        self._listing[name] = max(0, version + self._chance.choice((1, 1, -1)))
        await self._list()
        for filler in [filler for filler in self._fillers if filler.node.name == name]:
            self._fillers.remove(filler)
            filler.discard()

    async def _sync(self) -> None:
        await self._cache.objects.sync()
        safe = [
            (node.name, world.version_of(node))
            for node in self._nodes
            if self._cache.objects.state(node).complete
        ]
        mark(safe=safe)

    async def _begin(self, node: Node) -> None:
        objects = self._cache.objects
        if objects.state(node).complete:
            if self._chance.random() < 0.5:
                mark(dropped=[node.name, world.version_of(node)])
                await objects.drop(node)
            else:
                objects.touch(node)
            return
        filler = objects.fill(node)
        if filler is None:
            return
        if node.size is None:
            filler.set_size(world.size_of(node.name))
        if node.validator is None and self._chance.random() < 0.5:
            filler.learn('etag:"learned"')
        if world.size_of(node.name) <= 9000:
            self._write(filler, 1.0)
            self._finish(filler)
        else:
            self._fillers.append(filler)
            self._fill_on(filler)

    def _fill_on(self, filler: Filler) -> None:
        size = world.size_of(filler.node.name)
        self._write(filler, self._chance.choice((0.02, 0.3, 1.0)))
        if filler.present.covers(0, size):
            self._finish(filler)
        elif self._chance.random() < 0.15:
            self._fillers.remove(filler)
            filler.discard() if self._chance.random() < 0.4 else filler.close()

    def _write(self, filler: Filler, share: float) -> None:
        """Write so much of what is missing, out of order, in pieces that begin anywhere."""
        size = world.size_of(filler.node.name)
        left = int(size * share)
        while left >= 0 and (gaps := filler.present.gaps(0, size)):
            start, stop = self._chance.choice(gaps)
            if self._chance.random() < 0.5:
                start = self._chance.randrange(start, stop)
            stop = min(stop, start + self._chance.choice((3000, 4096, 70_000, 400_000)))
            data = world.right(filler.node, start, stop)
            middle = len(data) // 2
            filler.write(start, data[:middle], data[middle:])
            left -= len(data)

    def _finish(self, filler: Filler) -> None:
        if filler in self._fillers:
            self._fillers.remove(filler)
        os.close(filler.complete())


async def main() -> None:
    folder, seed, number, steps = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    chance = random.Random(f"{seed} {number}")
    hurry(chance)
    listing = world.first_listing()
    if number:
        listing = {name: chance.choice((0, 0, 1)) for name in listing}
    async with Cache.open(folder) as cache:
        session = Session(cache, chance, listing)
        await session.run(steps)
        if chance.random() < 0.6:
            _SHIM.powercut_end()
        session.end()


if __name__ == "__main__":
    trio.run(main)
