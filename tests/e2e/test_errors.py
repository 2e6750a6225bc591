"""`docs/semantics.md`, "Errors": each failure of an origin, and what a reader gets for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support import readers
from tests.support.data import MiB, digest, noise, put, tree
from tests.support.failures import errno_of, errno_of_listing, errno_of_reading
from tests.support.hostile import Behaviour, answer, good, hostile, in_turn, truncated
from tests.support.mounts import Mount, mounted
from tests.support.servers import Server, nginx
from tests.support.waiting import eventually

IMPATIENT = ["--deadline", "2", "--ttl", "0"]

ANSWERS = {401: "EACCES", 403: "EACCES", 404: "ENOENT", 407: "EACCES", 410: "ENOENT", 500: "EIO", 503: "EIO"}


def test_only_404_and_410_mean_that_a_file_is_not_there(folder: Path) -> None:
    """Every other answer is an error, each with the errno of its cause."""
    conf = ""
    for status in ANSWERS:
        put(folder, f"{status}.bin", noise(status, 1000))
        conf += f"location = /{status}.bin {{ return {status}; }}\n"
    with (
        nginx(folder, autoindex="json", extra_conf=conf) as origin,
        # The deadline bounds all tries of a request: the default would only make the 5xx slower.
        mounted(origin.url, args=["--deadline", "2"]) as mount,
    ):
        got = {status: errno_of_reading(mount.path / f"{status}.bin") for status in ANSWERS}
        assert got == ANSWERS
        assert errno_of_reading(mount.path / "no such name") == "ENOENT"


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(folder: Path) -> None:
    """A listing that fails is an error: EACCES or EIO, never a folder without entries."""
    conf = ""
    wanted = {403: "EACCES", 500: "EIO"}
    for status in wanted:
        put(folder, f"{status}/file.bin", b"x")
        conf += f"location /{status}/ {{ return {status}; }}\n"
    with (
        nginx(folder, autoindex="json", extra_conf=conf) as origin,
        mounted(origin.url, args=["--deadline", "2"]) as mount,
    ):
        got = {status: errno_of_listing(mount.path / str(status)) for status in wanted}
        assert got == wanted


@pytest.mark.parametrize("how", ["stopped", "stalled"])
def test_what_is_cached_is_served_when_the_origin_is_gone(
    how: str, folder: Path, origin: Server, tmp_path: Path
) -> None:
    """Complete files and known folders are served; the rest fails, within the deadline."""
    for name in ("cached/one.bin", "cached/two.bin", "other.bin", "never/seen.bin"):
        put(folder, name, noise(name, 3 * MiB))
    cache = tmp_path / "cache"
    wanted = tree(folder / "cached")

    def check(mount: Mount) -> None:
        assert tree(mount.path / "cached") == wanted
        for name in ("cached/one.bin", "cached/two.bin"):
            assert (mount.path / name).read_bytes() == noise(name, 3 * MiB)
        failure = "EIO" if how == "stopped" else "ETIMEDOUT"
        assert errno_of_reading(mount.path / "other.bin") == failure
        assert errno_of_listing(mount.path / "never") == failure

    with mounted(origin.url, cache=cache, args=IMPATIENT) as mount:
        for name in ("cached/one.bin", "cached/two.bin"):
            (mount.path / name).read_bytes()
        tree(mount.path / "cached")
        (origin.stop if how == "stopped" else origin.pause)()
        check(mount)
    with mounted(origin.url, cache=cache, args=IMPATIENT) as mount:
        assert "warning" in (mount.said.err if mount.said else "")
        check(mount)
        (origin.start if how == "stopped" else origin.resume)()
        other = mount.path / "other.bin"
        eventually(lambda: errno_of_reading(other) == "", "all is there again with the origin")


def test_a_failed_request_is_tried_again(folder: Path, origin: Server) -> None:
    """An origin that comes back in time costs its readers nothing but the wait."""
    path = put(folder, "file.bin", noise("again", 3 * MiB))
    with mounted(origin.url) as mount:
        (mount.path / "file.bin").stat()
        asked = mount.counters()["remote_requests"]
        origin.stop()
        reader = readers.start("read", mount.path / "file.bin")
        eventually(lambda: mount.counters()["remote_requests"] > asked, "a try fails")
        origin.start()
        assert readers.result(reader)["sha256"] == digest(path)


def test_a_fill_goes_on_over_a_restart_of_the_origin(folder: Path, slow_origin: Server) -> None:
    """Connections that break in the middle of a body are no reader's failure, nor is a byte of them lost."""
    path = put(folder, "file.bin", noise("broken", 24 * MiB))
    with mounted(slow_origin.url) as mount:
        reader = readers.start("read", mount.path / "file.bin")
        mount.wait_fetched(4 * MiB)
        slow_origin.restart()
        assert readers.result(reader)["sha256"] == digest(path)


def test_what_is_missing_of_an_open_file_is_an_error_when_the_origin_is_gone(
    folder: Path, slow_origin: Server
) -> None:
    """The bytes that are here are read, each read of others fails: never zeros, also at the second try."""
    data = noise("partial", 48 * MiB)
    put(folder, "large.bin", data)
    args = ["--deadline", "2", "--fetch", "whole", "--max-connections", "4"]
    with mounted(slow_origin.url, args=args) as mount:
        fd = os.open(mount.path / "large.bin", os.O_RDONLY)
        try:
            assert os.pread(fd, 4096, 0) == data[:4096]
            mount.wait_fetched(16 * MiB)
            slow_origin.stop()
            for _ in range(3):
                assert errno_of(lambda: os.pread(fd, 4096, 47 * MiB)) == "EIO"
                assert os.pread(fd, 4096, MiB) == data[MiB : MiB + 4096]
            slow_origin.start()
            eventually(
                lambda: errno_of(lambda: os.pread(fd, 4096, 47 * MiB)) == "", "the rest can be had again"
            )
            assert os.pread(fd, MiB, 47 * MiB) == data[47 * MiB :]
        finally:
            os.close(fd)


BODY = noise("whole", 300_000)
_LISTING = b'[{"name":"file.bin","type":"file","mtime":"Mon, 23 Nov 2026 14:02:14 GMT","size":300000}]'
_ETAG = {"ETag": '"one"', "Accept-Ranges": "bytes"}

# What the origin answers to the first two tries; then it answers as it should.
SPOILED: dict[str, Behaviour] = {
    "cut short": truncated(BODY, at=100_000),
    "reset": truncated(BODY, at=100_000, reset=True),
    "longer than stated": answer(200, {**_ETAG, "Content-Length": 300_000}, BODY + b"surplus"),
    "another range": answer(
        206, {**_ETAG, "Content-Range": "bytes 5-99/300000", "Content-Length": 95}, BODY[5:100]
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_file_is_never_short(how: str) -> None:
    """A body that ends early, is too long or of another range is thrown away and asked for again."""
    listing = answer(200, {"Content-Type": "application/json", "Content-Length": len(_LISTING)}, _LISTING)
    routes = {"/": listing, "/file.bin": in_turn(SPOILED[how], SPOILED[how], good(BODY))}
    with hostile(routes) as server, mounted(server.url, args=["--deadline", "5"]) as mount:
        path = mount.path / "file.bin"
        answers = [readers.run("read", path) for _ in range(3)]
        for got in answers:
            assert got["errno"] or got["sha256"] == hashlib.sha256(BODY).hexdigest(), got
        assert not answers[-1]["errno"], answers
