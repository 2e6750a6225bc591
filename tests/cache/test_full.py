"""A disk that is full: a clean error, and no wrong byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cache import Cache, CacheFull, CacheUnusable, index
from cache.reserve import FILES, SIZE, Reserve
from tests.cache.support import complete, content, file, files, read_all
from tests.support.namespace import apart

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> list[int]:
    """Run a program in a mount namespace: its mounts, and loop devices, go with it, however it ends."""
    command = apart(sys.executable, "-m", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def test_a_full_disk_never_leaves_a_wrong_byte(tmp_path: Path) -> None:
    full, whole = run("tests.cache.full", tmp_path)
    assert full > 50
    assert whole > 10


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "xfs", "btrfs", "inodes", "quota"])
def test_readers_of_a_full_disk_get_right_bytes_or_a_clean_error(tmp_path: Path, kind: str) -> None:
    """Whatever call the disk becomes full at, by other files, inodes or a quota; with room all is well again.

    What is cached is served from a full disk, also by a cache that is opened on it. (`make soak-model`: 300
    points.)
    """
    reads, failed, _ = run("tests.cache.full_engine", kind, tmp_path, 6, 1)
    assert reads > 500
    assert failed < reads // 4


async def test_room_is_kept_back_for_a_full_disk_and_made_again(home: Path) -> None:
    async with Cache.open(home):
        kept = sorted((home / "reserve").iterdir())
        assert [path.stat().st_blocks * 512 for path in kept] == [SIZE] * FILES
        reserve = Reserve(home)
        assert reserve.spend()
        assert not reserve.spend()
    assert sorted((home / "reserve").iterdir()) == kept


async def test_what_the_index_has_no_room_for_is_tried_again_after_an_eviction(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 100_000))
    complete(cache, node)
    await cache.objects.sync()
    made: list[bool] = []

    async def make_room() -> bool:
        made.append(await cache.objects.free(1) > 0)
        cache.objects._writer._connection.execute("PRAGMA max_page_count = 1000000")
        return made[-1]

    cache.tree.make_room = make_room
    pages = cache.tree._reader.all("PRAGMA page_count")[0][0]
    cache.objects._writer._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    await files(cache, *(file(f"{n:05}") for n in range(2000)))
    assert made == [True]
    assert cache.tree.count(node.parent) == 2000


async def test_an_index_that_cannot_grow_is_full_and_not_damaged(cache: Cache) -> None:
    (node,) = await files(cache, file("a", 1000))
    complete(cache, node)
    pages = cache.tree._reader.all("PRAGMA page_count")[0][0]
    cache.objects._writer._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    await cache.pins.add(node.source, ["a"])
    with pytest.raises(CacheFull):
        await files(cache, *(file(f"{n:05}") for n in range(2000)))
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


def test_an_index_that_cannot_be_opened_is_not_called_damaged(home: Path) -> None:
    home.mkdir()
    (home / index.NAME).mkdir()
    with pytest.raises(CacheUnusable, match="cannot be opened"):
        index.version_of(home / index.NAME)
