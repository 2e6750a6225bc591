"""A process that fills a cache, killed at a chosen point, again and again; run as a program.

``python -m tests.cache.crash FOLDER FUNCTION ROUNDS SEED``: in each round a child opens the cache, fills,
completes, discards and drops, and is killed by SIGKILL right before or right after a call of FUNCTION
(``any``: at any time). Then another child checks every byte that the cache would serve, and fetches
what is missing. This process itself never starts a thread, so that it may fork.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import trio

from cache import Cache, Node, durability
from cache.fsck import Verdict, fsck
from cache.writer import Writer
from tests.cache.support import content, file, files, fill, read_all, write
from tests.support import faults

FILES = 8
CALLS = {
    "open": 60,
    "pwrite": 40,
    "fdatasync": 15,
    "setxattr": 8,
    "fsync": 20,
    "rename": 8,
    "unlink": 10,
    "commit": 15,
    "syncfs": 6,
}
"""Functions to be killed at, and up to which of their calls."""


def sizes(seed: int) -> list[int]:
    return [
        random.Random(f"{seed} {number}").choice((0, 1, 4096, 50_000, 200_000)) for number in range(FILES)
    ]


async def nodes_of(cache: Cache, seed: int) -> list[Node]:
    return list(await files(cache, *(file(f"f{n}", size) for n, size in enumerate(sizes(seed)))))


def arm(function: str, at: int, *, after: bool) -> None:
    """Have this process killed around a call of a function."""
    inside: dict[str, tuple[Any, str]] = {
        "commit": (Writer, "_commit"),
        "syncfs": (durability.Durability, "_sync_file_system"),
    }
    holder, name = inside.get(function, (os, function))
    calls = 0
    if function in faults.FUNCTIONS:

        def shown(called: str, _takes: int, done: bool) -> int:
            nonlocal calls
            calls += called == function and not done
            if called == function and calls == at and done == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        faults.hook(shown)
        return
    real = getattr(holder, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **kwargs)
        finally:
            if mine == at and after:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, name, deadly)


async def victim(folder: Path, seed: int, function: str, chance: random.Random) -> None:
    durability.GATHER_SECONDS = durability.CHECKPOINT_SECONDS = 0.001
    durability.TOGETHER = chance.choice((1, 3))
    if function in ("fdatasync", "fsync"):
        durability.TOGETHER = 100  # where everything is synced at once, nothing is synced by itself
    async with Cache.open(folder) as cache:
        nodes = await nodes_of(cache, seed)
        while True:
            node = chance.choice(nodes)
            if cache.objects.state(node).complete:
                if chance.random() < 0.3:
                    await cache.objects.drop(node)
                continue
            filler = cache.objects.fill(node)
            if filler is None:
                await trio.lowlevel.checkpoint()
                continue
            assert node.size is not None
            gaps = filler.present.gaps(0, node.size)
            while gaps and chance.random() < 0.9:
                start, stop = chance.choice(gaps)
                start = chance.randrange(start, stop)
                write(filler, start, min(stop, start + chance.choice((1, 5000, 60_000))))
                gaps = filler.present.gaps(0, node.size)
                await trio.lowlevel.checkpoint()
            if not gaps:
                os.close(filler.complete())
            elif chance.random() < 0.3:
                filler.discard()
            else:
                filler.close()
            if chance.random() < 0.1:
                await cache.objects.sync()


async def check(folder: Path, seed: int) -> None:
    async with Cache.open(folder) as cache:
        for node in await nodes_of(cache, seed):
            assert node.size is not None
            right = content(node.id, 0, node.size)
            state = cache.objects.state(node)
            if state.complete:
                assert read_all(cache.objects.open_complete(node)) == right
                continue
            for start, stop in state.extents:
                assert cache.objects.partials.read(node, start, stop - start) == right[start:stop]
            filler = fill(cache, node)
            assert filler.present == state.extents, "resumed at what was safe"
            for start, stop in filler.present.gaps(0, node.size):
                write(filler, start, stop)
            assert read_all(filler.complete()) == right
        await cache.objects.sync()
        for node in await nodes_of(cache, seed):
            assert cache.objects.state(node).complete
    # A kill between taking a lease and ending it leaves an empty name beside a complete object.
    assert all(path.stat().st_size == 0 for path in folder.glob("objects/*/*.part"))
    assert all(finding.kind == "file" for finding in fsck(folder).findings)
    assert fsck(folder).verdict is Verdict.CLEAN


async def repair(folder: Path) -> None:
    """A check of what a kill left finds nothing that it cannot repair, and no object that is served wrong."""
    assert fsck(folder, dry_run=True).verdict is not Verdict.CANNOT
    assert fsck(folder).verdict is not Verdict.CANNOT
    again = fsck(folder)
    assert again.verdict is Verdict.CLEAN, again.findings


def child(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            trio.run(work)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - what a fork must never do is return
            traceback.print_exc()
            os._exit(1)
    return pid


def one_round(folder: Path, function: str, chance: random.Random, seed: int) -> None:
    async def die() -> None:
        if function != "any":
            arm(function, chance.randint(1, CALLS[function]), after=chance.random() < 0.5)
        await victim(folder, seed, function, chance)

    pid = child(die)
    if function == "any":
        time.sleep(chance.uniform(0.005, 0.15))
        os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    # What the kernel may still serve from must not change under it.
    backing = {path: path.open("rb") for path in folder.glob("objects/*/*") if path.suffix != ".part"}
    before = {path: opened.read() for path, opened in backing.items()}
    if chance.random() < 0.5:
        assert os.waitpid(child(lambda: repair(folder)), 0)[1] == 0
    pid = child(lambda: check(folder, seed))
    assert os.waitpid(pid, 0)[1] == 0
    for path, opened in backing.items():
        opened.seek(0)
        assert opened.read() == before[path]
        opened.close()


def main() -> None:
    folder, function, rounds, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for number in range(rounds):
        # A new cache every few rounds: what one crash left is also met by the next.
        home = folder / str(number // 4)
        one_round(home, function, random.Random(f"{seed} {function} {number}"), seed)


if __name__ == "__main__":
    faults.begin_anew("tests.cache.crash")
    main()
