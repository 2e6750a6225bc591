"""`docs/semantics.md`, "Reading": what is read, how, and how often it is fetched."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e import ways
from tests.support import readers
from tests.support.data import MiB, digest, noise, put
from tests.support.mounts import mounted
from tests.support.servers import Server
from tests.support.waiting import eventually

LARGE = 20 * MiB
"""Above what `--open auto` waits for."""


@pytest.mark.parametrize("way", ways.ALL, ids=lambda way: way.__name__)
def test_a_complete_file_is_read_by_the_kernel_alone(way: ways.Way, folder: Path, origin: Server) -> None:
    """None of read, pread, mmap, splice, sendfile… causes a request to the daemon."""
    data = noise("kernel", LARGE + 13)
    put(folder, "data.bin", data)
    with mounted(origin.url) as mount:
        assert digest(mount.path / "data.bin") == digest(folder / "data.bin")
        fd = mount.open_passthrough("data.bin")
        try:
            before = mount.counters()["read_requests"]
            assert way(fd, len(data)) == data
            assert mount.counters()["read_requests"] == before
        finally:
            os.close(fd)


def test_read_ahead_that_is_asked_for_does_not_hurt(folder: Path, origin: Server) -> None:
    """`fadvise(WILLNEED)` makes the kernel ask the daemon about such a handle: it answers, and rightly."""
    data = noise("willneed", LARGE)
    put(folder, "data.bin", data)
    with mounted(origin.url) as mount:
        (mount.path / "data.bin").read_bytes()
        fd = mount.open_passthrough("data.bin")
        try:
            os.posix_fadvise(fd, 0, len(data), os.POSIX_FADV_WILLNEED)
            assert ways.read(fd, len(data)) == data
            assert ways.mmap_all(fd, len(data)) == data
        finally:
            os.close(fd)


def test_a_small_file_is_complete_when_open_returns(folder: Path, origin: Server) -> None:
    """Every read and mmap of a small file is served by the kernel alone, from the first one on."""
    data = noise("small", 16 * MiB)
    put(folder, "small.bin", data)
    with mounted(origin.url) as mount:
        assert (mount.path / "small.bin").read_bytes() == data
        counters = mount.counters()
        assert counters["read_requests"] == 0
        assert counters["opens_passthrough"] == 1
        assert counters["opens_cached"] == 0


def test_a_large_file_opens_at_once_and_a_read_waits_only_for_its_own_bytes(
    folder: Path, slow_origin: Server
) -> None:
    """The bytes asked for come first; the first open after the last close is served by the kernel alone."""
    data = noise("large", 48 * MiB)
    put(folder, "large.bin", data)
    with mounted(slow_origin.url) as mount:
        fd = os.open(mount.path / "large.bin", os.O_RDONLY)
        try:
            for offset in (40 * MiB + 5, 20 * MiB - 1, 0):
                assert os.pread(fd, 4096, offset) == data[offset : offset + 4096]
            assert mount.counters()["bytes_fetched"] < len(data), "a read waited for the whole file"
            assert ways.pread(fd, len(data)) == data
        finally:
            os.close(fd)
        os.close(mount.open_passthrough("large.bin"))


def test_readers_at_different_places_share_one_fill(folder: Path, slow_origin: Server) -> None:
    """Several handles far apart are all served, and no byte is fetched twice."""
    data = noise("places", 32 * MiB)
    put(folder, "large.bin", data)
    with mounted(slow_origin.url) as mount:
        path, piece = mount.path / "large.bin", 2 * MiB
        starts = [0, 7 * MiB, 15 * MiB, 30 * MiB]
        running = [readers.start("read", path, str(start), str(piece)) for start in starts]
        assert [readers.result(reader)["size"] for reader in running] == [piece] * len(starts)
        assert path.read_bytes() == data
        assert mount.counters()["bytes_fetched"] <= len(data) * 1.1


def test_open_wait_makes_every_open_wait(folder: Path, origin: Server) -> None:
    """With `--open wait`, open returns when the file is complete, whatever its size."""
    data = noise("wait", LARGE)
    put(folder, "large.bin", data)
    with mounted(origin.url, args=["--open", "wait"]) as mount:
        fd = os.open(mount.path / "large.bin", os.O_RDONLY)
        try:
            counters = mount.counters()
            assert counters["bytes_fetched"] >= len(data)
            assert counters["opens_passthrough"] == 1
            assert ways.read(fd, len(data)) == data
            assert mount.counters()["read_requests"] == 0
        finally:
            os.close(fd)


def test_open_stream_never_waits(folder: Path, slow_origin: Server) -> None:
    """With `--open stream`, open returns at once, whatever the file's size."""
    size = 16 * MiB  # in 4 s: a busy machine may take some until it says what was fetched
    put(folder, "small.bin", noise("stream", size))
    with mounted(slow_origin.url, args=["--open", "stream", "--max-connections", "2"]) as mount:
        fd = os.open(mount.path / "small.bin", os.O_RDONLY)
        try:
            counters = mount.counters()
            assert counters["bytes_fetched"] < size
            assert counters["opens_passthrough"] == 0
            assert ways.read(fd, size) == noise("stream", size)
        finally:
            os.close(fd)


@pytest.mark.parametrize("size", [3 * MiB, LARGE], ids=["waited for", "streamed"])
def test_a_file_is_fetched_once_however_many_read_it(size: int, folder: Path, origin: Server) -> None:
    """50 processes that open one cold file at once cause one transfer of it."""
    path = put(folder, "shared.bin", noise("crowd", size))
    with mounted(origin.url) as mount:
        answers = readers.run("crowd", "50", mount.path / "shared.bin")["answers"]
        assert answers == {f"0 {size} {digest(path)}": 50}
        assert mount.counters()["bytes_fetched"] == size
    # Every byte came once. A request that is cut short, because another one was made for a reader further
    # on, leaves in the sockets what the origin had sent ahead: its log may count a little more.
    sent = sum(r.sent for r in origin.requests() if r.method == "GET" and r.uri == "/shared.bin")
    assert size <= sent < 2 * size


def test_mounts_and_warm_share_one_cache(folder: Path, origin: Server, tmp_path: Path) -> None:
    """What one mount or `mirror warm` fetched, the others have."""
    for name in ("by-mount.bin", "by-warm.bin"):
        put(folder, name, noise(name, 3 * MiB))
    cache = tmp_path / "cache"
    with mounted(origin.url, cache=cache) as one, mounted(origin.url, cache=cache) as other:
        assert (one.path / "by-mount.bin").read_bytes() == noise("by-mount.bin", 3 * MiB)
        one.mirror("warm", origin.url, "by-warm.bin", "--cache", cache).ok()
        for mount in (one, other):
            for name in ("by-mount.bin", "by-warm.bin"):
                assert (mount.path / name).read_bytes() == noise(name, 3 * MiB)
    for name in ("by-mount.bin", "by-warm.bin"):
        gets = [r for r in origin.requests() if r.method == "GET" and r.uri == f"/{name}"]
        assert sum(r.sent for r in gets) == 3 * MiB, gets


def test_an_interrupted_fetch_goes_on_where_it_was(folder: Path, slow_origin: Server, tmp_path: Path) -> None:
    """Bytes that reached the cache are not fetched again after an unmount."""
    size = 40 * MiB
    path = put(folder, "large.bin", noise("resume", size))
    cache = tmp_path / "cache"
    args = ["--fetch", "whole", "--max-connections", "2"]
    with mounted(slow_origin.url, cache=cache, args=args) as mount:
        with (mount.path / "large.bin").open("rb") as file:
            file.read(MiB)
            mount.wait_fetched(12 * MiB)
        fetched = mount.counters()["bytes_fetched"]
    assert fetched < size, "the file was complete before it was interrupted"
    with mounted(slow_origin.url, cache=cache) as mount:
        assert digest(mount.path / "large.bin") == digest(path)
        assert mount.counters()["bytes_fetched"] <= size - fetched + MiB


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_reader_that_waits_can_be_killed(sign: signal.Signals, folder: Path, origin: Server) -> None:
    """A process that waits for a dead origin ends at Ctrl-C, SIGTERM or SIGKILL, at once."""
    put(folder, "stuck.bin", noise("stuck", MiB))
    with mounted(origin.url, args=["--deadline", "600"]) as mount:
        assert (mount.path / "stuck.bin").stat().st_size == MiB
        asked = mount.counters()["remote_requests"]
        origin.pause()
        try:
            reader = subprocess.Popen(["cat", mount.path / "stuck.bin"], stdout=subprocess.DEVNULL)
            eventually(lambda: mount.counters()["remote_requests"] > asked, "the origin is asked")
            reader.send_signal(sign)
            assert reader.wait(timeout=20) == -sign
        finally:
            origin.resume()


def test_a_signal_that_does_not_end_a_reader_does_not_fail_its_read(folder: Path, origin: Server) -> None:
    """A profiler's timer never makes a read fail."""
    path = put(folder, "timed.bin", noise("timed", MiB))
    with mounted(origin.url) as mount:
        (mount.path / "timed.bin").stat()
        origin.pause()
        reader = readers.start("timed", mount.path / "timed.bin")
        try:
            eventually(lambda: readers.signal_waits(reader.pid), "a timer goes off while the reader waits")
        finally:
            origin.resume()
        assert readers.result(reader) == {"errno": 0, "size": MiB, "sha256": digest(path)}
