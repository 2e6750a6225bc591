"""Readers that fill one cache together, killed at random points; run as a program.

``python -m tests.kills.storm FOLDER KILLS SEED``: five processes read random ranges and whole files of one
source through one cache that is too small for all of it, so that each of them fills, follows the fills of
others, seals and evicts. Every byte is compared. One of them after the other is killed by SIGKILL, and
another takes its place; whatever it was filling, the others need. Now and then all are killed, and one
process looks at what is left: what is complete, what is partial, and whether a fill goes on exactly there.

This process itself never starts a thread, so that it may fork. It prints how much was read.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from cache import Cache, Node, durability, nobody_has_any
from cache.limits import Amount, Limits
from mirror.background import background
from mirror.errors import NoSpace
from mirror.fetch import Fetcher, open_fetcher
from mirror.fetch.descriptors import Descriptors
from mirror.letting_go import LettingGo
from mirror.namespace import Namespace
from mirror.retry import Schedule
from tests.support.fake_remote import BulkRemote, FakeRemote, Source

READERS = 5
SIZES = (0, 1, 4096, 100_000, 100_000, 100_000, 1_500_000, 3_000_000, 6_000_000)
CAP = 9_000_000
"""Bytes that the cache may take: not enough for all files."""
PATIENCE = 20.0
"""Seconds within which every read has to be answered, whoever was killed."""
PR_SET_PDEATHSIG = 1
LOOK_EVERY = 40
"""Kills between two looks at everything."""


def truth(number: int) -> bytes:
    """The right bytes of a file, never 0, so that a hole always shows."""
    period = bytes((value * 7 + number * 13) % 255 + 1 for value in range(251))
    size = SIZES[number]
    return (period * (size // len(period) + 1))[:size]


def remote() -> FakeRemote:
    files = {
        f"f{number}": Source(truth(number), validator=f'etag:"{number}"') for number in range(len(SIZES))
    }
    return BulkRemote(files, chunk=50_000)


async def reader(folder: Path, seed: int) -> None:
    """Read until killed."""
    durability.GATHER_SECONDS = durability.CHECKPOINT_SECONDS = 0.003
    chance = random.Random(seed)
    async with Cache.open(folder) as cache:
        origin = remote()
        root = await cache.tree.root(origin.url)
        namespace = Namespace(cache.tree, origin, root, ttl=60.0, schedule=Schedule())
        reading = Descriptors(cache.objects)
        letting_go = LettingGo(cache, reading, nobody_has_any, lambda _: None)
        cache.objects.eviction.holders.append(letting_go)
        async with (
            open_fetcher(cache.objects, origin, namespace, schedule=Schedule(), delivery=reading) as fetcher,
            background() as nursery,
        ):
            nursery.start_soon(letting_go.run)
            while True:
                with trio.fail_after(PATIENCE):
                    await one_read(namespace, fetcher, chance)
                with suppress(BlockingIOError):  # so many that counting more proves nothing
                    os.write(1, b".")


async def one_read(namespace: Namespace, fetcher: Fetcher, chance: random.Random) -> None:
    number = chance.randrange(len(SIZES))
    node = await namespace.lookup(namespace.root.id, f"f{number}")
    size = SIZES[number]
    if chance.random() < 0.3:
        with suppress(NoSpace):  # what others fill at this moment takes too much: it is read past the cache
            await fetcher.whole(node)
    start = chance.randrange(size + 1)
    length = chance.choice((1, 4096, 131_072, 1_000_000))
    data = await fetcher.read(node, start, length)
    assert data == truth(number)[start : start + length], f"wrong bytes of f{number} at {start}"


async def look(folder: Path, _seed: int) -> None:
    """Compare all that is here, and fetch some of the rest where it ends."""
    async with Cache.open(folder) as cache:
        root = await cache.tree.root(remote().url)
        await cache.space.set_limits(Limits(Amount(bytes=CAP), Amount(bytes=0)))
        for node in cache.tree.children(root.id):
            number = int(node.name[1:])
            state = cache.objects.state(node)
            if state.complete:
                assert whole(cache, node) == truth(number), node.name
                continue
            for start, stop in state.extents:
                assert cache.objects.partials.read(node, start, stop - start) == truth(number)[start:stop]
            filler = cache.objects.fill(node)
            assert filler is not None, f"{node.name} can be filled by nobody"
            assert filler.present == state.extents, "it goes on where the last synced extent ends"
            filler.close()
        await cache.objects.sync()
        await cache.objects.sync()
        room = cache.space.room()
        taken = sum(path.stat().st_blocks * 512 for path in folder.glob("objects/*/*"))
        assert room.claimed == 0, "nobody else is there"
        assert taken <= room.occupied <= CAP, (taken, room)


def whole(cache: Cache, node: Node) -> bytes:
    fd = cache.objects.open_complete(node)
    assert fd is not None, node.name
    with os.fdopen(fd, "rb") as opened:
        return opened.read()


Work = Callable[[Path, int], Coroutine[Any, Any, None]]


def child(work: Work, folder: Path, seed: int, out: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(out, 1)
            trio.run(work, folder, seed)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - what a fork must never do is return
            traceback.print_exc()
            os._exit(1)
    return pid


def end(pid: int) -> None:
    """Kill a reader that must not have ended by itself."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "a reader failed"


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    reads = 0
    assert os.waitpid(child(look, folder, 0, 2), 0)[1] == 0
    while kills > 0:
        readers = [child(reader, folder, chance.getrandbits(32), theirs) for _ in range(READERS)]
        time.sleep(0.3)
        for _ in range(min(kills, LOOK_EVERY)):
            time.sleep(chance.uniform(0.0, 0.3))
            end(readers.pop(chance.randrange(READERS)))
            readers.append(child(reader, folder, chance.getrandbits(32), theirs))
            kills -= 1
        for pid in readers:
            end(pid)
        assert os.waitpid(child(look, folder, 0, 2), 0)[1] == 0, "what is left is not right"
        reads += len(os.read(ours, 1 << 20))
    print(reads)


if __name__ == "__main__":
    main()
