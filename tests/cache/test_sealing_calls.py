"""`cache._sealing`: system calls on many files."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from cache._sealing import begin_writing, end_leases, mark

ATTRIBUTE = "user.mirror.test"


def test_the_disk_begins_with_what_was_written(tmp_path: Path) -> None:
    """Whatever is open; what is not is nobody's."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file:
        begin_writing([])
        begin_writing([file.fileno(), -1, 1 << 30])
        with pytest.raises(TypeError):
            begin_writing([file.fileno(), "x"])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            begin_writing(file.fileno())  # type: ignore[arg-type]


def test_each_file_gets_its_own_mark(tmp_path: Path) -> None:
    """What could not be done is said of that one alone; one without a name is only looked at."""
    files = [os.open(tmp_path / f"{number}", os.O_RDWR | os.O_CREAT) for number in range(4)]
    try:
        for number, fd in enumerate(files):
            os.write(fd, bytes(5000 * number))
        os.fsync(files[3])
        (tmp_path / "1").unlink()
        values: list[bytes | None] = [b"zero", b"one", None, bytes(1 << 20)]
        results = mark(ATTRIBUTE, [*zip(files, values, strict=True), (-1, b"none")])
        assert [result[1] for result in results] == [1, 0, 1, 1, 0]
        assert [result[0] for result in results[:3]] == [0, 0, 0]
        assert results[3][0] in (errno.E2BIG, errno.ENOSPC)
        assert results[4][0] == errno.EBADF
        assert results[3][2] == os.fstat(files[3]).st_blocks * 512 >= 15_000
        assert os.getxattr(files[0], ATTRIBUTE) == b"zero"
        for other in files[1:]:
            assert os.listxattr(other) == []
        assert mark(ATTRIBUTE, []) == []
    finally:
        for fd in files:
            os.close(fd)


def test_what_is_no_mark_is_refused() -> None:
    for wrong in ([("x", b"")], [(1, "text")], [(1,)], [[1, b""]], ((1, b""),)):
        with pytest.raises(TypeError):
            mark(ATTRIBUTE, wrong)  # type: ignore[arg-type]


def locked(path: Path, how: int) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_lease_gives_way_to_readers_and_to_nobody_else(tmp_path: Path) -> None:
    """Whoever has a descriptor of the file keeps it in use; without one it is free."""
    read, unread = tmp_path / "read", tmp_path / "unread"
    leases = []
    for path in (read, unread):
        path.touch()
        leases.append(os.open(path, os.O_RDONLY))
        fcntl.flock(leases[-1], fcntl.LOCK_EX)
    reader = os.open(read, os.O_RDONLY)
    copy = os.dup(reader)
    assert not locked(read, fcntl.LOCK_SH)
    end_leases(leases, [copy])
    for closed in (*leases, copy):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(closed)
    assert locked(read, fcntl.LOCK_SH)
    assert not locked(read, fcntl.LOCK_EX), "a reader has it"
    assert locked(unread, fcntl.LOCK_EX)
    os.close(reader)
    assert locked(read, fcntl.LOCK_EX)
    end_leases([], [])
    with pytest.raises(TypeError):
        end_leases([1, "x"], [])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        end_leases([], None)  # type: ignore[arg-type]
