"""Other processes with the same cache; run as a program: ``python -m tests.cache.process WHAT FOLDER``.

Each says on its standard output what it did, a line at a time, and goes on when its standard input
says so: nobody sleeps to wait.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import trio

from cache import Cache, durability
from tests.cache.support import complete, content, file, files, fill, read_all, write

SIZE = 50_000
FILES = 24


def say(word: str) -> None:
    print(word, flush=True)


async def told() -> None:
    await trio.to_thread.run_sync(sys.stdin.readline)


async def warm(cache: Cache) -> None:
    """Fetch all files that nobody else fetches; check those that others do."""
    nodes = await files(cache, *(file(str(number), SIZE) for number in range(FILES)))
    for node in nodes:
        while not cache.objects.state(node).complete:
            filler = cache.objects.fill(node)
            if filler is None:
                await trio.lowlevel.checkpoint()
                continue
            assert not filler.present
            say(node.name)
            for start in range(0, SIZE, 10_000):
                write(filler, start, start + 10_000)
            os.close(filler.complete())
        assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, SIZE)


async def half(cache: Cache) -> None:
    """Fetch the first half of a file, and hold its lease."""
    (node,) = await files(cache, file("a", SIZE))
    filler = fill(cache, node)
    write(filler, 0, SIZE // 2)
    await cache.objects.sync()
    say("half")
    await told()


async def unsealed(cache: Cache) -> None:
    """Complete a file, and do not get to sealing it."""
    (node,) = await files(cache, file("a", SIZE))
    complete(cache, node)
    say("complete")
    await told()


async def claims(cache: Cache) -> None:
    """Write to two files and complete a third; only some of it is in the index when this is killed."""
    nodes = await files(cache, file("a", SIZE), file("b", SIZE), file("c", SIZE))
    first, second = fill(cache, nodes[0]), fill(cache, nodes[1])
    write(first, 0, 1000)
    await cache.objects.sync()
    durability.CHECKPOINT_SECONDS = durability.GATHER_SECONDS = 1e6
    write(first, 1000, SIZE)
    write(second, 0, 500)
    complete(cache, nodes[2])
    say("claimed")
    await told()


async def leased(cache: Cache) -> None:
    """Take the lease of a file, and get no further."""
    nodes = await files(cache, file("a", SIZE), file("b", SIZE), file("c", SIZE))

    def hold(*_: object) -> None:
        say("leased")
        time.sleep(1000)

    say("open")
    await told()
    cache.objects._hold = hold  # type: ignore[method-assign]
    await cache.objects.begin(nodes[0])


async def slowly(cache: Cache) -> None:
    """Fetch a file in many steps, each safe before the next; half-way, wait to be told to go on."""
    (node,) = await files(cache, file("a", SIZE))
    filler = fill(cache, node)
    for start in range(0, SIZE, 1000):
        write(filler, start, start + 1000)
        await cache.objects.sync()
        if start == SIZE // 2000 * 1000:
            await told()
    os.close(filler.complete())


async def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "unsealed":
        durability.GATHER_SECONDS = 1e6
    say("ready")
    await told()
    async with Cache.open(folder) as cache:
        parts = {
            "warm": warm,
            "half": half,
            "unsealed": unsealed,
            "slowly": slowly,
            "claims": claims,
            "leased": leased,
        }
        await parts[what](cache)


if __name__ == "__main__":
    trio.run(main)
