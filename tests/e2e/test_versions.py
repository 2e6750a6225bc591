"""`docs/semantics.md`, "Versions": what a reader sees of a change at the origin."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.support import readers
from tests.support.data import MiB, digest, noise, put
from tests.support.failures import errno_of
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually

AT_ONCE = ["--ttl", "0"]


def test_one_handle_sees_one_version(folder: Path, slow_origin: Server) -> None:
    """A reader gets all of one version, or an error: never a mixture, whenever the origin changes."""
    size = 24 * MiB
    with mounted(slow_origin.url, args=AT_ONCE) as mount:
        for fetched_before_the_change in (1, 5, 12, 18):
            path = put(folder, "data.bin", noise((fetched_before_the_change, "old"), size))
            right, before = {digest(path)}, mount.counters()["bytes_fetched"]
            reader = readers.start("read", mount.path / "data.bin")
            mount.wait_fetched(before + fetched_before_the_change * MiB)
            right.add(digest(put(folder, "data.bin", noise((fetched_before_the_change, "new"), size))))
            answer = readers.result(reader)
            if answer["errno"]:
                assert answer["errno"] == errno.ESTALE
            else:
                assert answer["sha256"] in right
            assert readers.run("read", mount.path / "data.bin")["sha256"] == digest(path)


def test_a_complete_file_goes_on_serving_its_version_while_it_is_open(folder: Path, origin: Server) -> None:
    """Handles and mappings keep the version that they were opened with."""
    old, new = noise("old", MiB), noise("new", MiB + 1)
    put(folder, "data.bin", old)
    with mounted(origin.url, args=AT_ONCE) as mount:
        path = mount.path / "data.bin"
        fd = os.open(path, os.O_RDONLY)
        with mmap.mmap(fd, len(old), prot=mmap.PROT_READ) as view:
            try:
                put(folder, "data.bin", new)
                eventually(lambda: path.read_bytes() == new, "a new open sees the new version")
                assert os.pread(fd, len(old) + 1, 0) == old
                assert view[:] == old
                assert os.fstat(fd).st_size == len(old)
            finally:
                os.close(fd)


@pytest.mark.parametrize("ttl", ["0", "inf"])
def test_a_changed_origin_makes_readers_of_an_incomplete_file_fail_with_estale(
    ttl: str, folder: Path, slow_origin: Server
) -> None:
    """Reads that need missing bytes fail with ESTALE, and the next open of the name sees the new version."""
    put(folder, "data.bin", noise("old", 64 * MiB))
    with mounted(slow_origin.url, args=["--ttl", ttl]) as mount:
        path = mount.path / "data.bin"
        fd = os.open(path, os.O_RDONLY)
        try:
            assert os.pread(fd, 4096, 0) == noise("old", 64 * MiB)[:4096]
            put(folder, "data.bin", noise("new", 3 * MiB))
            # Connections that the origin answers from still deliver the old version: only what has to
            # be asked for anew is known to be gone.
            slow_origin.restart()
            assert errno_of(lambda: os.pread(fd, 4096, 63 * MiB)) == "ESTALE"
        finally:
            os.close(fd)
        eventually(lambda: path.read_bytes() == noise("new", 3 * MiB), "the next open sees the new version")


def test_a_change_shows_after_the_ttl(folder: Path, origin: Server) -> None:
    """The next stat and the next open see it; a new version is a new file with a new inode number."""
    put(folder, "data.bin", noise("old", 1000))
    put(folder, "gone.bin", b"soon gone")
    with mounted(origin.url, args=["--ttl", "1"]) as mount:
        path = mount.path / "data.bin"
        old = path.stat()
        assert path.read_bytes() == noise("old", 1000)
        put(folder, "data.bin", noise("new", 2000))
        put(folder, "born.bin", b"new here")
        (folder / "gone.bin").unlink()
        eventually(lambda: path.stat().st_size == 2000, "stat sees the new size")
        assert path.stat().st_ino != old.st_ino
        assert path.stat().st_mtime > old.st_mtime
        assert path.read_bytes() == noise("new", 2000)
        names = {"data.bin", "born.bin"}
        eventually(
            lambda: {found.name for found in mount.path.iterdir()} == names,
            "the listing shows what came and went",
        )
        assert (mount.path / "born.bin").read_bytes() == b"new here"
        eventually(lambda: not (mount.path / "gone.bin").exists(), "a deleted file is gone")


def test_a_change_shows_after_the_ttl_of_a_worker_that_died(folder: Path, origin: Server) -> None:
    """What a dead worker had told the kernel is watched over by its successor."""
    put(folder, "sub/data.bin", noise("old", 1000))
    put(folder, "data.bin", noise("old", 1000))
    with mounted(origin.url, args=["--ttl", "1"]) as mount:
        paths = [mount.path / "data.bin", mount.path / "sub/data.bin"]
        assert [path.stat().st_size for path in paths] == [1000, 1000]
        dead = mount.worker_pid
        mount.kill_worker()
        mount.wait_worker(dead)
        put(folder, "sub/data.bin", noise("new", 2000))
        put(folder, "data.bin", noise("new", 2000))
        eventually(lambda: [path.stat().st_size for path in paths] == [2000, 2000], "stat sees the new sizes")
        assert [path.read_bytes() for path in paths] == [noise("new", 2000)] * 2


def test_within_the_ttl_the_origin_is_not_asked_again(folder: Path, origin: Server) -> None:
    """Names, attributes and listings are trusted for the TTL."""
    put(folder, "sub/data.bin", noise("trusted", 1000))
    with mounted(origin.url, args=["--ttl", "inf"]) as mount:

        def use() -> None:
            for path in (mount.path / "sub").iterdir():
                path.stat()
                path.read_bytes()

        use()
        asked = mount.counters()["remote_requests"]
        for _ in range(3):
            use()
        assert mount.counters()["remote_requests"] == asked


def test_inode_numbers_last(folder: Path, origin: Server, tmp_path: Path) -> None:
    """A version keeps its inode number over unmounting, remounting and a restart of the daemon."""
    for name in ("a.bin", "b/c.bin", "b/d.bin"):
        put(folder, name, noise(name, 100))
    cache = tmp_path / "cache"

    def numbers(root: Path) -> dict[str, int]:
        return {str(path.relative_to(root)): path.stat().st_ino for path in sorted(root.rglob("*"))}

    with mounted(origin.url, cache=cache) as mount:
        first = numbers(mount.path)
        assert len(set(first.values())) == len(first) == 4
        dead = mount.kill_worker()
        mount.wait_worker(dead)
        assert numbers(mount.path) == first
    with mounted(origin.url, cache=cache) as mount:
        assert numbers(mount.path) == first
