"""Who walks a folder gets its next names from the keeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data import noise, put
from tests.support.failures import errno_of
from tests.support.mounts import Mount, mounted
from tests.support.servers import Server
from tests.support.waiting import eventually

FILES = 300


def name_of(number: int) -> str:
    return f"a/{number:04}.bin"


@pytest.fixture
def tree(folder: Path) -> Path:
    """An origin with many small files, none like another."""
    for number in range(FILES):
        put(folder, name_of(number), noise(str(number), 1000 + number), mtime=1_600_000_000 + 7 * number)
    return folder


@pytest.fixture
def walked(tree: Path, origin: Server) -> Iterator[Mount]:
    """A mount whose reader is in the middle of the folder."""
    with mounted(origin.url, args=["--ttl", "inf"]) as mount:
        for number in range(100):
            assert read(mount, number) == noise(str(number), 1000 + number)
        yield mount


def read(mount: Mount, number: int) -> bytes:
    return (mount.path / name_of(number)).read_bytes()


def test_the_keeper_answers_as_the_worker_does(walked: Mount, origin: Server) -> None:
    """Every attribute is the same, and most look-ups of a walk reach no worker."""
    walk = {}
    for number in range(100, FILES):
        walk[number] = (walked.path / name_of(number)).stat()
        assert read(walked, number) == noise(str(number), 1000 + number)
    counters = walked.counters()
    assert counters["lookups_by_keeper"] > FILES * 3 // 4
    assert counters["lookups"] < FILES // 4
    with mounted(origin.url, cache=walked.cache) as mount:
        for number in reversed(range(100, FILES)):
            assert attributes((mount.path / name_of(number)).stat()) == attributes(walk[number])
        assert mount.counters()["lookups_by_keeper"] == 0


def attributes(stat: os.stat_result) -> dict[str, object]:
    fields = [each for each in dir(stat) if each.startswith("st_") and each != "st_dev"]
    return {each: getattr(stat, each) for each in fields}


def test_what_changed_is_not_answered_as_it_was(walked: Mount, tree: Path) -> None:
    """Names that the keeper has ready, too: each is another file now, or gone, or a folder."""
    ahead = range(110, 128)
    for number in ahead:
        (tree / name_of(number)).unlink()
        if number % 3 == 1:
            put(tree, name_of(number), noise("other", 50 + number))
        if number % 3 == 2:
            put(tree, name_of(number) + "/b", b"inside")
    walked.mirror("refresh", walked.path).ok()
    for number in range(100, FILES):
        path = walked.path / name_of(number)
        if number not in ahead:
            assert path.read_bytes() == noise(str(number), 1000 + number)
        elif number % 3 == 0:
            assert errno_of(path.stat) == "ENOENT"
        elif number % 3 == 1:
            assert path.stat().st_size == 50 + number
            assert path.read_bytes() == noise("other", 50 + number)
        else:
            assert (path / "b").read_bytes() == b"inside"


def test_a_walk_goes_on_after_the_death_of_the_worker(walked: Mount, tree: Path) -> None:
    """What the dead one had expected is not answered any more: it may have changed since."""
    (tree / name_of(101)).unlink()
    dead = walked.kill_worker()
    walked.mirror("refresh", walked.source).ok()
    walked.wait_worker(dead)
    assert errno_of((walked.path / name_of(101)).stat) == "ENOENT"
    for number in range(102, FILES):
        assert read(walked, number) == noise(str(number), 1000 + number)


def test_a_walk_over_what_is_cached_reaches_no_worker_either(walked: Mount, origin: Server) -> None:
    """In a new mount nothing is registered: what is ahead of a reader is, before he comes to it."""
    walked.mirror("warm", "--quiet", walked.source, "--cache", walked.cache).ok()
    with mounted(origin.url, cache=walked.cache) as mount:
        for number in range(FILES):
            assert read(mount, number) == noise(str(number), 1000 + number)
        counters = mount.counters()
        assert counters["bytes_fetched"] == 0
        assert counters["opens_passthrough"] == FILES
        assert counters["opens_by_keeper"] > FILES * 3 // 4
        assert counters["opens"] < FILES // 4


def test_names_that_are_expected_are_as_fresh_as_any(tree: Path, origin: Server) -> None:
    """Nobody tells of the change: the folder is listed again after its TTL, as for names the kernel has."""
    with mounted(origin.url, args=["--ttl", "1"]) as mount:
        for number in range(100):
            read(mount, number)
        (tree / name_of(110)).unlink()
        put(tree, name_of(111), noise("other", 50))
        eventually(lambda: errno_of((mount.path / name_of(110)).stat) == "ENOENT", "it is gone")
        eventually(lambda: (mount.path / name_of(111)).stat().st_size == 50, "it has changed")
        assert read(mount, 111) == noise("other", 50)
