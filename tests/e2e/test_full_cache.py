"""A cache whose file system fills up while it is used: right bytes, and a mount that stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data import MiB, digest, noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_what_does_not_fit_is_read_past_the_cache(folder: Path, origin: Server, small: Path) -> None:
    """Files larger than the cache's file system are served, and what fits is still cached."""
    for name, size in (("fits.bin", 3 * MiB), ("too large.bin", 24 * MiB), ("tiny.bin", 10)):
        put(folder, name, noise(name, size))
    # The log is on the full file system too: its lines may be lost, the mount may not.
    log = ["--log-file", str(small / "mount.log")]
    with mounted(origin.url, cache=small / "cache", args=log) as mount:
        for _ in range(2):
            for path in sorted(folder.iterdir()):
                assert digest(mount.path / path.name) == digest(path)
        assert mount.status()["worker_restarts"] == 0


def test_a_file_without_room_is_not_fetched_anew_for_each_read(
    folder: Path, origin: Server, small: Path
) -> None:
    """What was begun for the cache in vain is begun again at the next open only, and said once."""
    path = put(folder, "too large.bin", noise("large", 24 * MiB))
    with mounted(origin.url, cache=small / "cache") as mount:
        assert digest(mount.path / path.name) == digest(path)
        assert mount.counters()["fills_failed"] == 1
        assert mount.log.count("is read past the cache") == 1
