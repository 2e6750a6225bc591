"""The file systems that a cache is likely to be on, beside the one that the tests run on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import mirror
from tests.support.data import KiB, MiB, digest, noise, put
from tests.support.filesystems import mount_image
from tests.support.mounts import PREFIX, mounted
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture(params=["xfs", "btrfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    # Named as what mounts are taken away from that a killed test has left.
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        (home / "disk").mkdir()
        mount_image(request.param, home / "image", 512 * MiB, home / "disk")
        try:
            yield home / "disk"
        finally:
            subprocess.run(["umount", home / "disk"], check=True)
    finally:
        shutil.rmtree(home)


def blocks(folder: Path) -> int:
    """Bytes of the disk that the files of a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def said(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_a_cache_is_what_it_is_elsewhere(disk: Path, folder: Path, origin: Server) -> None:
    """Read by the kernel alone, also without a worker; served without the origin; sound; counted right."""
    sizes = {f"small-{number}": 3 * KiB * number**2 for number in range(20)} | {"large": 40 * MiB}
    paths = [put(folder, name, noise(name, size)) for name, size in sizes.items()]
    cache = disk / "cache"
    with mounted(origin.url, cache=cache) as mount:
        for path in paths:
            assert digest(mount.path / path.name) == digest(path)
        fd = mount.open_passthrough("large")
        before = mount.counters()["read_requests"]
        os.kill(worker := mount.worker_pid, signal.SIGKILL)
        assert os.pread(fd, MiB, 7 * MiB) == noise("large", 40 * MiB)[7 * MiB : 8 * MiB]
        os.close(fd)
        eventually(lambda: mount.worker_pid not in (0, worker), "another worker has come")
        assert mount.counters()["read_requests"] <= before
    origin.stop()
    with mounted(origin.url, cache=cache) as mount:
        for path in paths:
            assert digest(mount.path / path.name) == digest(path)
    mirror("verify", "--all", "--cache", cache).ok()
    mirror("fsck", "--cache", cache).ok()
    room = json.loads(mirror("du", "--json", "--cache", cache).ok().out)["room"]
    assert sum(sizes.values()) < blocks(cache / "objects") <= room["occupied"]
    assert room["occupied"] < 1.05 * sum(sizes.values())


def test_btrfs_writes_the_index_in_place_and_no_object(disk: Path, folder: Path, origin: Server) -> None:
    """And XFS everything, of which it says nothing."""
    put(folder, "a", noise("a", MiB))
    cache = disk / "cache"
    with mounted(origin.url, cache=cache) as mount:
        assert digest(mount.path / "a") == digest(folder / "a")
        listed = said("lsattr", "-R", cache)
    named = [line.split() for line in listed.splitlines() if len(line.split()) == 2]
    in_place = {Path(name).relative_to(cache).parts[0] for flags, name in named if "C" in flags}
    assert "objects" not in in_place
    expected = {"index.sqlite", "index.sqlite-shm", "index.sqlite-wal"}
    assert in_place >= (expected if said("stat", "-f", "-c", "%T", disk) == "btrfs\n" else set())


def test_a_cache_keeps_to_its_limits(disk: Path, folder: Path, origin: Server) -> None:
    """XFS sets room aside behind a file that grows, and takes it back when nobody writes to it."""
    paths = [put(folder, f"{number}", noise(str(number), 8 * MiB)) for number in range(6)]
    cache = disk / "cache"
    with mounted(origin.url, cache=cache, args=["--cache-size", "20M"]) as mount:
        for path in paths:
            assert digest(mount.path / path.name) == digest(path)
    assert 16 * MiB <= blocks(cache / "objects") <= 20 * MiB


def test_no_more_is_evicted_than_is_wanted(disk: Path, folder: Path, origin: Server) -> None:
    """What was deleted is free some time later there: whoever waits for it would delete the rest."""
    for number in range(40):
        put(folder, f"{number}", noise(str(number), 4 * MiB))
    put(folder, "small", b"small")
    warm = ["warm", origin.url, "--cache", disk / "cache"]
    mirror(*warm).ok()
    before = blocks(disk / "cache" / "objects")
    status = os.statvfs(disk)
    mirror(*warm, "--min-free", str(status.f_bavail * status.f_frsize + 30 * MiB), "small").ok()
    assert 30 * MiB <= before - blocks(disk / "cache" / "objects") <= (30 + 16 + 2 * 4) * MiB
