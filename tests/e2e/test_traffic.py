"""How much a mount asks of the network: `--fetch`, `--max-connections`, `--bwlimit`."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.support.command import mirror
from tests.support.data import KiB, MiB, digest, noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server


def test_a_random_reader_of_a_large_file_has_little_of_it_fetched(folder: Path, origin: Server) -> None:
    """By default: an index of a large archive is read without the archive."""
    data = noise("archive", 128 * MiB)
    put(folder, "archive.bin", data)
    choice = random.Random(3)
    with mounted(origin.url) as mount:
        fd = os.open(mount.path / "archive.bin", os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for _ in range(50):
                at = choice.randrange(len(data) // 4096) * 4096
                assert os.pread(fd, 4096, at) == data[at : at + 4096]
        finally:
            os.close(fd)
        assert mount.counters()["bytes_fetched"] < 50 * 128 * KiB
        assert digest(mount.path / "archive.bin") == digest(folder / "archive.bin")


def test_a_mount_says_what_it_may_ask_of_the_network(folder: Path, origin: Server) -> None:
    put(folder, "a.bin", noise("a", 100))
    with mounted(origin.url, args=["-o", "bwlimit=10M,max_connections=3"]) as mount:
        assert (mount.path / "a.bin").read_bytes() == noise("a", 100)
        assert mount.counters()["bwlimit"] == 10 * MiB
        assert "at most 10" in mount.mirror("status", mount.path).ok().out
    with mounted(origin.url) as mount:
        assert mount.counters()["bwlimit"] is None


def test_warming_keeps_to_the_limit(folder: Path, origin: Server, tmp_path: Path) -> None:
    for number in range(4):
        put(folder, f"{number}.bin", noise(number, MiB))
    began = time.monotonic()
    mirror("warm", origin.url, "--cache", tmp_path / "cache", "--bwlimit", "2M").ok()
    assert time.monotonic() - began > 1.5
    wrong = mirror("warm", origin.url, "--cache", tmp_path / "cache", "--bwlimit", "fast")
    assert wrong.code == 2
    assert "is no rate" in wrong.err
