"""`mirror ls`, `du`, `evict` and `gc`: what a user sees of a cache, and takes out of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Outcome, mirror
from tests.support.data import MiB, digest, noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def warmed(folder: Path, origin: Server, cache: Path) -> Server:
    """An origin with a small tree, of which ``a`` is cached."""
    for name in ("a/1.bin", "a/b/2.bin", "c/3.bin", "top.bin"):
        put(folder, name, noise(name, 100_000))
    mirror("warm", origin.url, "a", "--cache", cache).ok()
    return origin


def ls(cache: Path, *args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mirror("ls", "--json", "--cache", cache, *args).ok().out)
    return found


def du(cache: Path, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mirror("du", "--json", "--cache", cache, *args).ok().out)
    return found


def evict(cache: Path, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mirror("evict", "--json", "--cache", cache, *args).ok().out)
    return found


def line_of(outcome: Outcome) -> str:
    """The one line of a command that failed with exit code 1."""
    assert (outcome.code, outcome.out) == (1, ""), str(outcome)
    (line,) = outcome.lines
    return line


def objects(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "objects").rglob("*") if path.is_file())


# -- ls --------------------------------------------------------------------------------------


def test_ls_shows_what_is_here_of_each_file(warmed: Server, cache: Path) -> None:
    """With sizes and times; folders have a slash; `--json` has the same for scripts."""
    mirror("pin", "--no-fetch", warmed.url, "a/b", "--cache", cache).ok()
    lines = mirror("ls", warmed.url, "--cache", cache).ok().out.splitlines()
    assert lines[0].split() == ["CACHED", "SIZE", "MODIFIED", "LAST", "OPENED", "NAME"]
    assert [line.split()[-1] for line in lines[1:]] == ["a/", "c/", "top.bin"]
    assert lines[3].split()[:3] == ["0%", "97.7", "KiB"]
    files = {entry["path"]: entry for entry in ls(cache, "-R", warmed.url)}
    assert list(files) == ["a", "c", "top.bin", "a/1.bin", "a/b", "a/b/2.bin", "c/3.bin"]
    assert files["a/1.bin"] == files["a/1.bin"] | {
        "kind": "file",
        "size": 100_000,
        "cached_bytes": 100_000,
        "percent": 100.0,
        "complete": True,
        "pinned": False,
    }
    assert files["a/1.bin"]["mtime"] > 1e9
    assert files["a/1.bin"]["last_used"] > 1e9
    assert files["c/3.bin"] == files["c/3.bin"] | {"percent": 0.0, "complete": False, "last_used": None}
    assert [path for path, entry in files.items() if entry["pinned"]] == ["a/b", "a/b/2.bin"]
    assert files["a"]["percent"] is None


def test_ls_prints_names_for_scripts_and_only_what_is_cached_if_asked(warmed: Server, cache: Path) -> None:
    names = mirror("ls", "-1", "-R", "--cached", warmed.url, "--cache", cache).ok().out.splitlines()
    assert names == ["a/", "a/1.bin", "a/b/", "a/b/2.bin"]
    assert mirror("ls", "-1", warmed.url, "a/b", "--cache", cache).ok().out == "2.bin\n"
    assert ls(cache, "--cached", warmed.url, "c") == []


def test_ls_asks_the_origin_only_where_it_has_to(warmed: Server, cache: Path) -> None:
    """A listing within its TTL is enough, also an old one if the origin is gone; then with a warning."""
    warmed.forget()
    assert len(ls(cache, warmed.url)) == 3
    assert len(ls(cache, "--offline", "--ttl", "0", warmed.url)) == 3
    assert warmed.requests() == []
    assert len(ls(cache, "--ttl", "0", warmed.url)) == 3
    assert len(warmed.requests()) > 0
    warmed.stop()
    outcome = mirror("ls", "--ttl", "0", warmed.url, "--cache", cache).ok()
    assert "warning: the origin does not answer" in outcome.err
    assert len(outcome.out.splitlines()) == 4


def test_ls_of_what_cannot_be_listed_is_one_line(warmed: Server, cache: Path) -> None:
    """Which says what to do."""

    def said(*args: str) -> str:
        return line_of(mirror("ls", *args, "--cache", cache))

    assert "top.bin is a file, not a folder" in said(warmed.url, "top.bin")
    assert "there is no nothing in" in said(warmed.url, "nothing")
    assert "there is no top.bin/x" not in said(warmed.url, "top.bin/x")
    assert "c was never listed: leave out --offline" in said("--offline", warmed.url, "c")
    assert "never seen in this cache: http://127.0.0.1:9/" in said("--offline", "http://127.0.0.1:9/")
    assert "refused" in said("http://127.0.0.1:9/")


# -- du --------------------------------------------------------------------------------------


def test_du_adds_up_what_is_on_disk(folder: Path, warmed: Server, cache: Path) -> None:
    """Per source and in total, with the limits and what they leave."""
    mirror("pin", warmed.url, "a/b", "--cache", cache).ok()
    put(folder, "a/1.bin", noise("other", 50_000))
    mirror("warm", warmed.url, "a", "--cache", cache, "--cache-size", "10M", "--min-free", "1M").ok()
    found = du(cache)
    (source,) = found["sources"]
    assert source == {"source": warmed.url} | found["total"]
    assert (source["complete"], source["partial"], source["superseded"]) == (2, 0, 1)
    assert 100_000 < source["pinned_bytes"] < source["occupied"]
    assert source["superseded_bytes"] > 100_000
    on_disk = sum(path.stat().st_blocks * 512 for path in objects(cache))
    assert on_disk <= source["occupied"] <= on_disk + 3 * 4096
    assert found["limits"] == {"cache_size": str(10 * MiB), "min_free": str(MiB)}
    room = found["room"]
    assert (room["occupied"], room["claimed"], room["capacity"]) == (source["occupied"], 0, 10 * MiB)
    assert room["left"] == 10 * MiB - source["occupied"]
    assert found["index_bytes"] > 4096
    assert du(cache, warmed.url) == found | {"index_bytes": du(cache, warmed.url)["index_bytes"]}
    human = mirror("du", "--cache", cache).ok().out
    for words in (warmed.url, "cache size  10.0 MiB", "room left", str(cache)):
        assert words in human
    assert "never seen" in line_of(mirror("du", "http://127.0.0.1:9/", "--cache", cache))


# -- evict -----------------------------------------------------------------------------------


def test_evict_removes_what_matches(warmed: Server, cache: Path) -> None:
    """First it says what it would do. What was evicted is fetched again when it is read."""
    foreseen = evict(cache, "--dry-run", warmed.url, "a/*.bin")
    assert (foreseen["removed"], len(objects(cache))) == (1, 2)
    done = evict(cache, warmed.url, "a/*.bin")
    assert done == foreseen | {"dry_run": False}
    assert done["freed"] > 100_000
    assert len(objects(cache)) == 1
    assert du(cache)["room"]["claimed"] == 0
    assert "matches a/*.bin" in line_of(mirror("evict", warmed.url, "a/*.bin", "--cache", cache))
    with mounted(warmed.url, cache=cache) as mount:
        assert (mount.path / "a/1.bin").read_bytes() == noise("a/1.bin", 100_000)
    assert "never seen" in line_of(mirror("evict", "--all", "http://127.0.0.1:9/", "--cache", cache))


def test_evict_leaves_what_is_pinned_unless_told(warmed: Server, cache: Path) -> None:
    mirror("pin", warmed.url, "a/b", "--cache", cache).ok()
    said = mirror("evict", "--all", "--cache", cache).ok().out.splitlines()
    assert said[0].startswith("1 object removed, ")
    assert said[1].startswith("1 object stayed (")
    assert said[1].endswith("pinned (--pinned removes them too)")
    assert evict(cache, warmed.url, "**", "--pinned")["removed"] == 1
    assert objects(cache) == []
    assert "1 file" in mirror("pin", warmed.url, "a/b", "--cache", cache).ok().out  # the pin is there still


def test_evict_leaves_what_is_open(folder: Path, warmed: Server, cache: Path) -> None:
    """Whoever reads through a mount keeps what they have; what is idle goes."""
    path = folder / "a/1.bin"
    with mounted(warmed.url, cache=cache) as mount:
        fd = mount.open_passthrough("a/1.bin")
        try:
            done = evict(cache, "--all")
            assert (done["removed"], done["in_use"]) == (1, 1)
            assert done["in_use_bytes"] > 100_000
            assert os.pread(fd, 200_000, 0) == path.read_bytes()
        finally:
            os.close(fd)
        assert digest(mount.path / "a/b/2.bin") == digest(folder / "a/b/2.bin")


def test_evict_leaves_what_is_being_fetched(folder: Path, slow_origin: Server, cache: Path) -> None:
    put(folder, "large.bin", noise("large", 24 * MiB))
    with (
        mounted(slow_origin.url, cache=cache, args=["--fetch", "whole", "--max-connections", "2"]) as mount,
        (mount.path / "large.bin").open("rb") as file,
    ):
        file.read(1)
        mount.wait_fetched(2 * MiB)
        eventually(lambda: du(cache)["total"]["partial"] == 1, "the index knows of it")
        done = evict(cache, "--all")
        assert (done["removed"], done["filled"]) == (0, 1)
        file.seek(16 * MiB)
        assert file.read(1000) == noise("large", 24 * MiB)[16 * MiB : 16 * MiB + 1000]


# -- gc --------------------------------------------------------------------------------------


def test_gc_removes_what_nobody_can_use(folder: Path, warmed: Server, cache: Path) -> None:
    """Superseded objects, unknown files and old logs; no current file is touched."""
    put(folder, "a/1.bin", noise("other", 50_000))
    mirror("warm", warmed.url, "a", "--cache", cache).ok()
    shard = cache / "objects" / "ab"
    shard.mkdir(exist_ok=True)
    (shard / ("ab" + "0" * 38 + ".part")).write_bytes(b"x" * 10_000)
    (cache / "log").mkdir(exist_ok=True)
    for name, age in (("old.log", 30), ("new.log", 0)):
        path = cache / "log" / name
        path.write_text("a line\n")
        os.utime(path, (time.time() - age * 86400,) * 2)
    before = objects(cache)
    foreseen = json.loads(mirror("gc", "--json", "--dry-run", "--cache", cache).ok().out)
    assert objects(cache) == before
    done = json.loads(mirror("gc", "--json", "--cache", cache).ok().out)
    for key, value in {"superseded": 1, "logs": 1, "missing": 0, "in_use": 0}.items():
        assert foreseen[key] == done[key] == value
    assert done["files"]["removed"] == foreseen["files"]["removed"] == 1
    assert done["freed"] >= 110_000
    assert len(objects(cache)) == 2
    assert [path.name for path in (cache / "log").iterdir()] == ["new.log"]
    again = json.loads(mirror("warm", warmed.url, "a", "--cache", cache, "--json").ok().out)
    assert again["files_fetched"] == 0
    assert "nothing to remove" in mirror("gc", "--cache", cache).ok().out


def test_gc_leaves_a_running_mount_all_that_it_may_need(folder: Path, warmed: Server, cache: Path) -> None:
    """An open superseded version, and the names that the kernel may know."""
    with mounted(warmed.url, cache=cache, args=["--ttl", "1"]) as mount:
        fd = mount.open_passthrough("a/1.bin")
        try:
            put(folder, "a/1.bin", noise("other", 50_000))
            eventually(lambda: (mount.path / "a/1.bin").stat().st_size == 50_000, "the change is seen")
            done = json.loads(mount.mirror("gc", "--json").ok().out)
            assert (done["superseded"], done["in_use"], done["nodes"]) == (0, 1, None)
            assert os.pread(fd, 200_000, 0) == noise("a/1.bin", 100_000)
        finally:
            os.close(fd)


def test_a_mount_looks_for_unknown_files_after_a_start_of_the_system(warmed: Server, cache: Path) -> None:
    """Nobody else would: they are not counted in the limits."""
    stray = cache / "objects" / "ab" / ("ab" + "0" * 38)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 10_000)
    with mounted(warmed.url, cache=cache) as mount:
        eventually(lambda: not stray.exists(), "the stray file is removed")
        assert digest(mount.path / "a/1.bin")
        stray.write_bytes(b"x")
    with mounted(warmed.url, cache=cache) as mount:
        assert (mount.path / "a/1.bin").read_bytes() == noise("a/1.bin", 100_000)
    assert stray.exists()
