"""`docs/semantics.md`, "Processes": a cache that lost its index, under real mounts."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.data import MiB, noise, put
from tests.support.failures import errno_of_listing, errno_of_reading
from tests.support.mounts import mounted, prepared
from tests.support.servers import Server
from tests.support.waiting import eventually

FILES = {"one.bin": 100_000, "sub/two.bin": 3 * MiB, "sub/deep/er/three.bin": 5}
IMPATIENT = ["--deadline", "2", "--ttl", "0"]


def fill(folder: Path, origin: Server, cache: Path) -> dict[str, int]:
    """Have a mount cache all files; their inode numbers."""
    for name, size in FILES.items():
        put(folder, name, noise(name, size))
    put(folder, "sub/never.bin", noise("never", 1000))
    with mounted(origin.url, cache=cache) as mount:
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
        return {name: (mount.path / name).stat().st_ino for name in FILES}


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_lost_index_is_made_anew_from_what_is_cached(folder: Path, origin: Server, tmp_path: Path) -> None:
    """Every complete file is served without a byte from the origin, also without the origin at all."""
    cache = tmp_path / "cache"
    inodes = fill(folder, origin, cache)
    (cache / "index.sqlite").unlink()
    origin.stop()
    with mounted(origin.url, cache=cache, args=IMPATIENT) as mount:
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
            assert (mount.path / name).stat().st_ino not in inodes.values()
        assert errno_of_reading(mount.path / "sub/never.bin") == "EIO"
        assert errno_of_reading(mount.path / "no such name") == "EIO"
        assert errno_of_listing(mount.path / "sub") == "EIO"
        mount.assert_logged("made anew from 3 objects")
        origin.start()
        never = mount.path / "sub/never.bin"
        eventually(lambda: errno_of_reading(never) == "", "the rest is there again with the origin")
        assert names(mount.path / "sub") == ["deep", "never.bin", "two.bin"]
        origin.forget()
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
        assert [r.uri for r in origin.requests() if r.method == "GET" and r.uri.endswith(".bin")] == []


def test_a_damaged_index_is_made_anew_by_the_next_command(
    folder: Path, origin: Server, tmp_path: Path
) -> None:
    """`mirror warm` does it too, and says so in one line; then it fetches what is missing only."""
    cache = tmp_path / "cache"
    fill(folder, origin, cache)
    os.truncate(cache / "index.sqlite", 9000)
    origin.forget()
    with prepared(origin.url, cache=cache) as mount:
        warmed = mount.mirror("warm", origin.url, "--cache", cache).ok()
        (line,) = [line for line in warmed.lines if "warning" in line]
        assert "was damaged or lost" in line
        got = [r.uri for r in origin.requests() if r.method == "GET" and r.uri.endswith(".bin")]
        assert got == ["/sub/never.bin"]


def test_a_mount_goes_on_when_its_worker_finds_the_index_damaged(
    folder: Path, origin: Server, tmp_path: Path
) -> None:
    """Another worker makes the index anew; names that were looked up before are looked up again."""
    cache = tmp_path / "cache"
    fill(folder, origin, cache)
    with mounted(origin.url, cache=cache) as mount:
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
        held = (mount.path / "sub/two.bin").open("rb")
        (cache / "index.damaged").write_text("for this test")
        mount.wait_worker(mount.kill_worker())
        with held:
            assert held.read() == noise("sub/two.bin", 3 * MiB)
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
        assert names(mount.path / "sub") == ["deep", "never.bin", "two.bin"]
        assert (mount.path / "sub/never.bin").read_bytes() == noise("never", 1000)
        mount.assert_logged("made anew from")


def test_fsck_works_beside_a_mount(folder: Path, origin: Server, tmp_path: Path) -> None:
    """It repairs what is wrong; only an index in use is not replaced."""
    cache = tmp_path / "cache"
    fill(folder, origin, cache)
    with mounted(origin.url, cache=cache) as mount:
        assert (mount.path / "one.bin").read_bytes() == noise("one.bin", 100_000)
        assert mount.mirror("fsck").ok().lines == []
        (victim,) = [path for path in cache.glob("objects/*/*") if path.stat().st_size == 5]
        victim.unlink()
        repaired = mount.mirror("fsck", "--json")
        assert repaired.code == 1
        (finding,) = json.loads(repaired.out)["findings"]
        assert "sub/deep/er/three.bin" in finding["what"]
        refused = mount.mirror("fsck", "--rebuild")
        assert refused.code == 2
        (line,) = refused.lines
        assert "in use by another process" in line
        for name, size in FILES.items():
            assert (mount.path / name).read_bytes() == noise(name, size)
    assert mount.mirror("fsck", "--rebuild").code == 1
