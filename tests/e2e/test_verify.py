"""What rots in the cache is found, given to nobody and fetched again: by command, at opens, by the scrub."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from tests.support.data import MiB, flip, noise, put
from tests.support.mounts import Mount, mounted, prepared
from tests.support.servers import Server
from tests.support.waiting import eventually


def objects(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("objects/*/*") if path.suffix != ".part")


def object_of(cache: Path, data: bytes) -> Path:
    return next(path for path in objects(cache) if path.read_bytes() == data)


def warmed(mount: Mount, *patterns: str) -> None:
    mount.mirror("warm", "-q", mount.source, *patterns).ok()


def test_what_is_good_is_called_good(folder: Path, origin: Server) -> None:
    for name, size in (("a", 10), ("b", 3 * MiB), ("empty", 0)):
        put(folder, name, noise(name, size))
    with prepared(origin.url) as mount:
        warmed(mount)
        done = mount.mirror("verify", origin.url).ok()
        assert "3 files checked" in done.out
        assert "all good" in done.out
        done = mount.mirror("verify", "--all", "--json").ok()
        assert json.loads(done.out)["good"] == 3
        assert json.loads(mount.mirror("verify", origin.url, "[ab]", "--json").ok().out)["good"] == 2
        done = mount.mirror("verify", "http://127.0.0.1:1/nothing/")
        assert (done.code, "the cache has nothing of" in done.err) == (1, True)
        done = mount.mirror("verify", origin.url, "none", "*.c").ok()
        assert done.out == f"nothing that is cached of {origin.url} matches none *.c\n"
        done = mount.mirror("verify", "--all", "--cache", mount.home / "typo")
        assert (done.code, "there is no cache in" in done.err) == (1, True)
        assert not (mount.home / "typo").exists()
        mount.mirror("evict", "--all").ok()
        assert mount.mirror("verify", "--all").ok().out == "nothing is cached\n"
        assert mount.mirror("verify", origin.url).ok().out == f"nothing is cached of {origin.url}\n"
        assert mount.mirror("verify").code == 2
        assert mount.mirror("verify", origin.url, "../x").code == 2


def test_a_bit_that_rots_is_found(folder: Path, origin: Server) -> None:
    data = {name: noise(name, 200_000) for name in ("a", "b", "c")}
    for name, bytes_ in data.items():
        put(folder, name, bytes_)
    with prepared(origin.url) as mount:
        warmed(mount)
        flip(object_of(mount.cache, data["b"]), 1234)
        done = mount.mirror("verify", origin.url)
        assert done.code == 1
        assert "1 DAMAGED, 1 of them fetched again" in done.out
        assert "b: damaged (bytes 0 to 200,000), fetched again" in done.err
        assert object_of(mount.cache, data["b"])
        mount.mirror("verify", origin.url).ok()
        flip(object_of(mount.cache, data["c"]), 5)
        origin.stop()
        done = mount.mirror("verify", "--all", "--json")
        report = json.loads(done.out)
        assert (done.code, report["bad"], report["refetched"]) == (1, 1, 0)
        assert report["damage"][0]["path"] == "c"
        assert report["damage"][0]["reason"]
        assert len(objects(mount.cache)) == 2


def test_a_rotten_file_is_taken_from_a_mount_that_has_it(folder: Path, origin: Server) -> None:
    """Who opens it after the finding gets good bytes, although somebody still has the bad ones open."""
    good = noise("a", 300_000)
    put(folder, "a", good)
    with mounted(origin.url) as mount:
        path = mount.path / "a"
        assert path.read_bytes() == good
        old = mount.open_passthrough("a")
        try:
            mount.mirror("verify", origin.url).ok()
            flip(object_of(mount.cache, good), 1000)
            assert path.read_bytes() != good, "the kernel reads what rots"
            done = mount.mirror("verify", origin.url)
            assert (done.code, "fetched again" in done.err) == (1, True)
            assert eventually(lambda: path.read_bytes() == good, "good bytes")
            assert os.pread(old, 1 << 20, 0) != good
        finally:
            os.close(old)
        assert path.read_bytes() == good


def test_with_verify_open_nothing_rotten_is_ever_given_out(folder: Path, origin: Server) -> None:
    chance = random.Random(1)
    data = {f"{number:04}": noise(number, chance.randrange(1, 20_000)) for number in range(1000)}
    for name, bytes_ in data.items():
        put(folder, name, bytes_)
    with prepared(origin.url) as mount:
        warmed(mount)
        for path in objects(mount.cache):
            flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
        assert mount.mount("--verify", "open").code == 0
        try:
            for name, bytes_ in data.items():
                assert (mount.path / name).read_bytes() == bytes_
            assert mount.counters()["damaged"] == 1000
        finally:
            mount.mirror("unmount", mount.path).ok()


def test_the_scrub_of_a_mount_finds_what_rots(folder: Path, origin: Server) -> None:
    good = noise("a", 100_000)
    put(folder, "a", good)
    with prepared(origin.url) as mount:
        warmed(mount)
        flip(object_of(mount.cache, good), 77)
        assert mount.mount("--scrub", "100ms").code == 0
        try:
            assert eventually(
                lambda: "a was damaged and is fetched again" in mount.log, "a finding of the scrub"
            )
            assert (mount.path / "a").read_bytes() == good
        finally:
            mount.mirror("unmount", mount.path).ok()
