"""Files that the index does not know: taken over, left alone, or removed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from cache import Cache, Node, sweep
from cache.sweep import Swept
from tests.cache.support import complete, content, file, files, read_all

STRANGER = "ab" + "0" * 38


def place(home: Path, name: str, data: bytes = b"") -> Path:
    path = home / "objects" / name[:2] / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    return path


def names(home: Path) -> set[str]:
    return {path.name for path in (home / "objects").rglob("*") if path.is_file()}


async def known(cache: Cache, name: str = "a") -> Node:
    """A complete, sealed object."""
    (node,) = await files(cache, file(name))
    complete(cache, node)
    await cache.objects.sync()
    return node


def forget_rows(cache: Cache) -> None:
    cache.submit(lambda db: db.execute("DELETE FROM objects"))


async def test_a_cache_that_is_right_stays_as_it_is(cache: Cache, home: Path) -> None:
    node = await known(cache)
    before = names(home)
    assert cache.sweep.run() == Swept()
    assert cache.sweep.missing() == 0
    assert names(home) == before == {node.key.hex()}


async def test_a_file_that_says_what_it_is_is_taken_over(cache: Cache) -> None:
    """Its room is counted again, too."""
    node = await known(cache)
    before = cache.space.room().occupied
    forget_rows(cache)
    assert cache.space.room().occupied == 0
    assert cache.sweep.run(dry_run=True) == Swept(adopted=1)
    assert cache.space.room().occupied == 0
    assert cache.sweep.run() == Swept(adopted=1)
    assert cache.space.room().occupied == before
    assert read_all(cache.objects.open_complete(node)) == content(node.id, 0, 1000)


async def test_files_that_nobody_can_use_are_removed(cache: Cache, home: Path) -> None:
    """Of versions that the index does not name, and bytes that no row names."""
    node = await known(cache)
    (other,) = [each for each in await files(cache, file("a"), file("b")) if each.name == "b"]
    place(home, STRANGER, b"x" * 5000)
    place(home, STRANGER.replace("ab", "cd") + ".part", b"x" * 5000)
    place(home, other.key.hex() + ".part", b"x" * 5000)
    before = names(home)
    foreseen = cache.sweep.run(dry_run=True)
    assert names(home) == before
    swept = cache.sweep.run()
    assert foreseen == swept
    assert swept is not None
    assert (swept.removed, swept.adopted, swept.busy) == (3, 0, 0)
    assert swept.freed >= 3 * 5000
    assert names(home) == {node.key.hex()}


async def test_what_a_living_process_fills_or_has_open_is_left_alone(cache: Cache, home: Path) -> None:
    (node,) = await files(cache, file("a"))
    paths = [place(home, STRANGER), place(home, STRANGER.replace("ab", "cd") + ".part", b"x")]
    paths.append(place(home, node.key.hex() + ".part", b"x"))
    locks = (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_EX)
    before = names(home)
    opened = [path.open("rb") for path in paths]
    try:
        for one, lock in zip(opened, locks, strict=True):
            fcntl.flock(one, lock)
        swept = cache.sweep.run()
    finally:
        for one in opened:
            one.close()
    assert swept == Swept(busy=3)
    assert names(home) == before


async def test_files_that_are_none_of_ours_are_left_alone(cache: Cache, home: Path) -> None:
    for name in ("README", STRANGER + ".bak", STRANGER.upper()):
        place(home, name)
    (home / "objects" / "file").touch()
    before = names(home)
    assert cache.sweep.run() == Swept()
    assert names(home) == before


async def test_an_empty_part_beside_a_complete_object_is_removed(cache: Cache, home: Path) -> None:
    node = await known(cache)
    place(home, node.key.hex() + ".part")
    assert cache.sweep.run(dry_run=True) == Swept(removed=1)
    assert cache.sweep.run() == Swept(removed=1)
    assert names(home) == {node.key.hex()}


async def test_rows_without_files_are_forgotten(cache: Cache, home: Path) -> None:
    node = await known(cache)
    (home / "objects" / node.key.hex()[:2] / node.key.hex()).unlink()
    assert cache.sweep.missing(dry_run=True) == 1
    assert cache.sweep.missing() == 1
    assert cache.sweep.missing() == 0
    await cache.space.given_back()
    assert cache.space.room().occupied == cache.space.room().claimed == 0
    assert names(home) == set()


async def test_after_a_start_of_the_system_all_files_are_looked_at_once(cache: Cache, home: Path) -> None:
    assert cache.sweep.due()
    place(home, STRANGER)
    assert cache.sweep.after_a_start() == Swept(removed=1)
    assert not cache.sweep.due()
    place(home, STRANGER)
    assert cache.sweep.after_a_start() is None
    assert names(home) == {STRANGER}
    cache.submit(lambda db: db.execute("UPDATE space SET boot = 'another'"))
    assert cache.sweep.after_a_start() == Swept(removed=1)


async def test_one_process_at_a_time_looks(cache: Cache, home: Path) -> None:
    fd = os.open(home / sweep.LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert cache.sweep.run() is None
        assert cache.sweep.after_a_start() is None
        assert cache.sweep.due()
    finally:
        os.close(fd)


class _StoppedError(Exception):
    pass


async def test_a_look_that_is_stopped_is_due_still(cache: Cache) -> None:
    def stop() -> None:
        raise _StoppedError

    await known(cache)
    with pytest.raises(_StoppedError):
        cache.sweep.after_a_start(stop)
    assert cache.sweep.due()


async def test_more_files_than_a_batch(cache: Cache, home: Path) -> None:
    for number in range(600):
        place(home, f"{number:040x}")
    assert cache.sweep.run() == Swept(removed=600)
    assert names(home) == set()
