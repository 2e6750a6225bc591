"""A cache whose file system fills up while it is used: right bytes, and a mount that stays."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.support.data import MiB, digest, noise, put
from tests.support.failures import errno_of
from tests.support.hostile import Seen, Wire, good, hostile
from tests.support.mounts import mounted
from tests.support.servers import Server, nginx, python_http
from tests.support.waiting import eventually


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
        mount.assert_logged("is read past the cache", times=1)


def test_a_reader_in_order_gets_what_does_not_fit_in_a_few_answers(
    folder: Path, origin: Server, small: Path
) -> None:
    """Not one request for each read, which would cost the way to the origin and back each time."""
    path = put(folder, "too large.bin", noise("large", 64 * MiB))
    with mounted(origin.url, cache=small / "cache", args=["--open", "stream"]) as mount:
        assert digest(mount.path / path.name) == digest(path)
        assert mount.counters()["bytes_bypassed"] >= 48 * MiB
        requests = [request for request in origin.requests() if request.method == "GET"]
        assert len(requests) <= 16


def test_random_reads_of_what_does_not_fit_transfer_what_they_ask_for(
    folder: Path, origin: Server, small: Path
) -> None:
    """A few bytes here and there do not pull the file."""
    data = noise("large", 64 * MiB)
    put(folder, "too large.bin", data)
    luck = random.Random(7)
    args = ["--open", "stream", "--fetch", "whole"]
    with mounted(origin.url, cache=small / "cache", args=args) as mount:
        fd = os.open(mount.path / "too large.bin", os.O_RDONLY)
        try:
            eventually(lambda: mount.counters()["fills_failed"] == 1, "there is no room")
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            origin.forget()
            places = [luck.randrange(len(data) // 4096) * 4096 for _ in range(200)]
            for at in places:
                assert os.pread(fd, 4096, at) == data[at : at + 4096]
            assert sum(request.sent for request in origin.requests()) <= 4096 * len(places)
        finally:
            os.close(fd)


@pytest.mark.parametrize(
    "serve",
    [partial(nginx, autoindex="json", extra_conf="max_ranges 0;"), python_http],
    ids=["nginx", "python"],
)
def test_what_does_not_fit_is_read_in_order_from_an_origin_without_ranges(
    serve: Callable[[Path], AbstractContextManager[Server]], folder: Path, small: Path
) -> None:
    """One answer serves a reader that goes forward; reading from the start again is another one."""
    path = put(folder, "too large.bin", noise("large", 64 * MiB))
    with (
        serve(folder) as server,
        mounted(server.url, cache=small / "cache", args=["--open", "stream"]) as mount,
    ):
        for _ in range(2):
            assert digest(mount.path / path.name) == digest(path)
        requests = [request for request in server.requests() if request.uri.endswith(".bin")]
        assert len([request for request in requests if request.method == "GET"]) <= 12
        fd = os.open(mount.path / path.name, os.O_RDONLY)
        try:
            for at in (50 * MiB, 20 * MiB, 60 * MiB):
                assert os.pread(fd, 1000, at) == path.read_bytes()[at : at + 1000]
        finally:
            os.close(fd)


def test_a_stream_that_stalls_fails_its_readers_within_the_deadline(small: Path) -> None:
    """And is no more in the way of the next one when the origin is back."""
    data = noise("large", 24 * MiB)
    serve, stalled = good(data), threading.Event()

    def behave(seen: Seen, wire: Wire) -> None:
        if stalled.is_set() and seen.range is not None and seen.range[0] > 12 * MiB:
            if seen.range[1] is None and seen.range[0] == 13 * MiB:
                head = {"ETag": '"one"', "Content-Range": f"bytes {13 * MiB}-{24 * MiB - 1}/{24 * MiB}"}
                wire.head(206, {**head, "Content-Length": 11 * MiB})
                wire.send(data[13 * MiB : 14 * MiB])
            wire.pause(None)
        serve(seen, wire)

    options = ["--open", "stream", "--fetch", "whole", "--deadline", "2"]
    with (
        hostile({"/large.bin": behave}) as server,
        mounted(f"{server.url}large.bin", cache=small / "cache", args=options) as mount,
        (mount.path / "large.bin").open("rb", buffering=0) as file,
    ):
        eventually(lambda: mount.counters()["fills_failed"] == 1, "there is no room")
        assert file.read(MiB) == data[:MiB]
        stalled.set()
        file.seek(12 * MiB)
        assert errno_of(lambda: all(iter(partial(file.read, MiB), b""))) == "ETIMEDOUT"
        stalled.clear()
        file.seek(0)
        assert b"".join(iter(partial(file.read, MiB), b"")) == data
