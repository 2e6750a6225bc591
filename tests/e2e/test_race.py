"""Opens that race with fills, evictions and fills anew: no error, no wrong byte, never over the limit."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cache import Cache
from cache.limits import Amount, Limits
from tests.support.data import noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server

OPENS = int(os.environ.get("MIRROR_OPENS", "6000"))
"""In all; ``make soak`` has 100,000."""
PROCESSES = 2
FILES = 60
CAP = 1_000_000
"""Bytes: about half of all files."""

READER = """
import hashlib, os, random, sys
folder, opens, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
right = dict(line.split() for line in sys.stdin)
names = sorted(right)
chance = random.Random(seed)
kept = []
for _ in range(opens):
    # Some files are liked more than others, so that some are hits.
    name = names[min(chance.randrange(len(names)), chance.randrange(len(names)))]
    fd = os.open(os.path.join(folder, name), os.O_RDONLY)
    data = os.pread(fd, 1 << 20, 0)
    if hashlib.sha256(data).hexdigest() != right[name]:
        sys.exit(f"wrong bytes of {name}: {len(data)}")
    kept.append(fd)
    while len(kept) > chance.randrange(4):
        os.close(kept.pop(chance.randrange(len(kept))))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so that all that is taken of it can be seen, deleted files included."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def taken(disk: Path, cache: Path) -> int:
    """Bytes of the file system that are not the index, nor what is kept back for it."""
    status = os.statvfs(disk)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    for path in (*cache.glob("index*"), *cache.glob("claims/*"), *cache.glob("reserve/*")):
        try:
            used -= path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return used


@pytest.mark.timeout(120 + OPENS / 20)
@pytest.mark.parametrize("options", [[], ["-o", "no_passthrough"]], ids=["passthrough", "page cache"])
def test_opens_race_with_evictions(folder: Path, origin: Server, disk: Path, options: list[str]) -> None:
    chance = random.Random(1)
    right = {}
    for number in range(FILES):
        data = noise(number, chance.choice((5_000, 30_000, 60_000)))
        put(folder, f"f{number:02}", data)
        right[f"f{number:02}"] = hashlib.sha256(data).hexdigest()
    cache = disk / "cache"
    trio.run(limit, cache)
    highest = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, taken(disk, cache))

    opens = OPENS // PROCESSES // (1 if not options else 4)
    with mounted(origin.url, cache=cache, args=options) as mount:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            readers = [
                subprocess.Popen(
                    [sys.executable, "-c", READER, mount.path, str(opens), str(seed)],
                    stdin=subprocess.PIPE,
                    text=True,
                )
                for seed in range(PROCESSES)
            ]
            for reader in readers:
                assert reader.stdin is not None
                reader.stdin.write("".join(f"{name} {digest}\n" for name, digest in right.items()))
                reader.stdin.close()
            assert [reader.wait() for reader in readers] == [0] * PROCESSES
        finally:
            done.set()
            watcher.join()
        counters = mount.counters()
        assert counters["evicted"] > opens // 20
        assert mount.status()["worker_restarts"] == 0
        assert "past the cache" not in mount.log
    # What a file system notes about a file is counted with a block for each; tmpfs has none of that.
    assert CAP // 2 < highest <= CAP + FILES * 512


async def limit(path: Path) -> None:
    async with Cache.open(path) as cache:
        await cache.space.set_limits(Limits(Amount(bytes=CAP), Amount(bytes=0)))
