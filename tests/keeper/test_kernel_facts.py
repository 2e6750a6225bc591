"""What the open rule relies on, asked of the running kernel: each test is one row of its behaviour."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.keeper import client
from mirror.keeper.mountpoint import stack_depth
from tests.keeper.conftest import Home
from tests.keeper.raw_fuse import DIRECT_IO, KEEP_CACHE, NOFLUSH, PASSTHROUGH, RawMount, raw_mount

MINE = b"backing file " * 1000
THEIRS = b"user space.. " * 1000


@pytest.fixture
def raw(home: Home) -> Iterator[RawMount]:
    """A bare mount; user space and backing file have different bytes, so each read tells its source."""
    home.add(object=MINE)
    with raw_mount(home.path, THEIRS) as mounted:
        yield mounted


@pytest.fixture
def backing_id(raw: RawMount, home: Home) -> int:
    """The backing file, registered."""
    with (home.files / "object").open("rb") as file:
        return raw.register(file.fileno())


@contextmanager
def opened(raw: RawMount, flags: int, backing_id: int = 0) -> Iterator[int]:
    """Open the file with the OPEN answered so; on exit the RELEASE has arrived."""
    raw.flags, raw.backing_id = flags, backing_id
    fd = os.open(raw.file, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
        assert raw.released.acquire(timeout=20)


def mapped(fd: int) -> mmap.mmap:
    """Map the whole file, shared."""
    return mmap.mmap(fd, 0, prot=mmap.PROT_READ)


def looked_at(view: mmap.mmap, size: int) -> bytes:
    """The first bytes of a mapping, read by a system call.

    The server is a thread of this process: an access by Python itself would fault while it holds the
    interpreter, and wait for that thread for ever.
    """
    reader, writer = os.pipe()
    with memoryview(view) as whole, whole[:size] as part:
        assert os.write(writer, part) == size
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


def refused(raw: RawMount, flags: int, backing_id: int = 0) -> bool:
    """Whether an open answered so fails with EIO."""
    raw.flags, raw.backing_id = flags, backing_id
    try:
        fd = os.open(raw.file, os.O_RDONLY)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
        failed = True
    else:
        os.close(fd)
        failed = False
    assert raw.released.acquire(timeout=20)  # the kernel gives back also what it could not use
    return failed


@pytest.mark.parametrize("beside", [0, NOFLUSH])
def test_passthrough_reads_never_reach_user_space(raw: RawMount, backing_id: int, beside: int) -> None:
    """An open with a valid id is read and mapped from the backing file."""
    with opened(raw, PASSTHROUGH | beside, backing_id) as fd:
        assert os.pread(fd, 100, 0) == MINE[:100]
        with mapped(fd) as view:
            assert looked_at(view, len(MINE)) == MINE
    assert raw.reads == 0


def test_keep_cache_beside_passthrough_fails(raw: RawMount, backing_id: int) -> None:
    """KEEP_CACHE may not stand beside PASSTHROUGH."""
    assert refused(raw, PASSTHROUGH | KEEP_CACHE, backing_id)


@pytest.mark.parametrize("flags", [0, KEEP_CACHE, DIRECT_IO])
def test_another_mode_beside_passthrough_fails(raw: RawMount, backing_id: int, flags: int) -> None:
    """While a passthrough handle is open no other mode can be."""
    with opened(raw, PASSTHROUGH, backing_id):
        assert refused(raw, flags)
        assert not refused(raw, PASSTHROUGH, backing_id)
    assert not refused(raw, flags)


def test_passthrough_beside_a_cached_handle_fails(raw: RawMount, backing_id: int) -> None:
    """While a page-cached handle is open passthrough cannot be; afterwards it can."""
    with opened(raw, 0):
        assert refused(raw, PASSTHROUGH, backing_id)
    assert not refused(raw, PASSTHROUGH, backing_id)


def test_passthrough_beside_direct_io_works(raw: RawMount, backing_id: int) -> None:
    """Plain direct_io handles stand in nobody's way, unless one was mapped: that makes it a cached one."""
    with opened(raw, DIRECT_IO) as fd:
        assert not refused(raw, PASSTHROUGH, backing_id)
        with mapped(fd) as view:
            assert looked_at(view, 10) == THEIRS[:10]
            assert refused(raw, PASSTHROUGH, backing_id)


def test_two_ids_of_one_node_fail(raw: RawMount, backing_id: int, home: Home) -> None:
    """All passthrough handles of a node have one backing id."""
    with (home.files / "object").open("rb") as file:
        other = raw.register(file.fileno())
    with opened(raw, PASSTHROUGH, backing_id):
        assert refused(raw, PASSTHROUGH, other)
    assert not refused(raw, PASSTHROUGH, other)


def test_a_closed_id_serves_its_handles_but_no_new_one(raw: RawMount, backing_id: int) -> None:
    """Closing an id leaves its handles alone, and makes new opens with it fail."""
    with opened(raw, PASSTHROUGH, backing_id) as fd:
        raw.unregister(backing_id)
        assert os.pread(fd, 100, 0) == MINE[:100]
        assert refused(raw, PASSTHROUGH, backing_id)


def test_direct_io_beside_passthrough_splits(raw: RawMount, backing_id: int) -> None:
    """With both flags read goes to user space and mmap to the backing file."""
    with opened(raw, PASSTHROUGH | DIRECT_IO, backing_id) as fd:
        assert os.pread(fd, 100, 0) == THEIRS[:100]
        with mapped(fd) as view:
            assert looked_at(view, 100) == MINE[:100]


def test_willneed_on_passthrough_asks_user_space(raw: RawMount, backing_id: int) -> None:
    """Readahead by hand sends READs to user space; what is read stays the backing file's."""
    with opened(raw, PASSTHROUGH, backing_id) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        assert os.pread(fd, 100, 0) == MINE[:100]
    assert raw.reads > 0


@pytest.mark.parametrize(
    ("path", "error"),
    [("/proc/self/status", errno.ELOOP), ("/dev/null", errno.EINVAL), ("/tmp", errno.EISDIR)],
)
def test_what_cannot_be_a_backing_file(raw: RawMount, path: str, error: int) -> None:
    """Files of procfs, devices and folders are refused."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(error)):
            raw.register(fd)
    finally:
        os.close(fd)


@pytest.fixture
def overlay() -> Iterator[Path]:
    """A folder on overlayfs."""
    with tempfile.TemporaryDirectory(prefix="mirror-overlay-", dir="/dev/shm") as folder:
        for name in ("lower", "upper", "work", "merged"):
            (Path(folder) / name).mkdir()
        options = ",".join(f"{name}dir={folder}/{name}" for name in ("lower", "upper", "work"))
        merged = Path(folder) / "merged"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", str(merged)], check=True)


def test_overlayfs_takes_a_depth_of_2(home: Home, overlay: Path) -> None:
    """Backing files on overlayfs are refused at depth 1 and taken at depth 2."""
    (overlay / "object").write_bytes(MINE)
    with (overlay / "object").open("rb") as file:
        with (
            raw_mount(home.path, THEIRS, depth=1) as shallow,
            pytest.raises(OSError, match=os.strerror(errno.ELOOP)),
        ):
            shallow.register(file.fileno())
        with raw_mount(home.path, THEIRS, depth=2) as deep:
            assert deep.register(file.fileno()) > 0


def test_a_cache_on_overlayfs_has_passthrough(home: Home, overlay: Path) -> None:
    """The keeper asks for the depth that the cache's file system needs, and no more."""
    assert stack_depth(home.config.cache) == 1
    assert stack_depth(str(overlay)) == 2
    files = overlay / "files"
    files.mkdir()
    (files / "whole").write_bytes(MINE)
    home.start(cache=str(overlay), source=f"test:{files}")
    assert (home.path / "whole").read_bytes() == MINE
    status = home.status()
    assert status["passthrough"] is True
    assert status["counters"]["read_requests"] == 0
    client.unmount(home.config.mountpoint)  # it holds files of the overlay
