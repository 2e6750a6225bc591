"""What the recorder sees: every change, every barrier, in one order, whoever makes the call."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from tests.powercut.model import whole
from tests.powercut.recorder import Kind, Op, Record
from tests.powercut.test_powercut import assert_same


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.new(tmp_path)


def run(record: Record, work: str) -> list[Op]:
    """Have one of the functions below run in a process of its own, in the recorded folder."""
    record.run([sys.executable, "-m", "tests.powercut.test_recorder", work, record.root])
    assert_same(record)
    return record.read()


def kinds(ops: list[Op]) -> list[Kind]:
    return [op.kind for op in ops if op.kind not in (Kind.OPEN, Kind.CLOSE, Kind.MARK, Kind.EXIT)]


# -- work that is recorded -------------------------------------------------------------------------


def every_call(folder: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    (folder / "a").mkdir(0o700)
    fd = os.open(folder / "a" / "x", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"1" * 100)
    os.pwrite(fd, b"2" * 100, 8000)
    os.writev(fd, [b"3" * 50, b"4" * 50])
    os.pwritev(fd, [b"5" * 5000, b"6" * 5000], 100)
    os.ftruncate(fd, 9000)
    os.posix_fallocate(fd, 0, 20_000)
    assert libc.fallocate(fd, 3, 4096, 4096) == 0  # a hole
    os.setxattr(fd, "user.a", b"value")
    os.setxattr(fd, "user.b", b"value")
    os.removexattr(fd, "user.a")
    os.fchmod(fd, 0o640)
    os.fsync(fd)
    os.fdatasync(fd)
    assert libc.syncfs(fd) == 0
    assert libc.sync_file_range(fd, 0, 0, 2) == 0
    os.close(fd)
    os.link(folder / "a" / "x", folder / "y")
    (folder / "a" / "x").rename(folder / "a" / "z")
    (folder / "a" / "z").unlink()
    (folder / "a").rmdir()
    here = os.open(folder, os.O_RDONLY)
    os.fsync(here)
    fd = os.open("by-descriptor", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here)
    with (folder / "y").open("wb") as file:  # emptied, and written at its position
        file.write(b"7" * 10)
    os.replace("by-descriptor", "renamed", src_dir_fd=here, dst_dir_fd=here)
    os.chdir(folder)
    Path("here").write_bytes(b"8")
    with pytest.raises(FileNotFoundError):
        Path("nowhere").unlink()


def database(folder: Path) -> None:
    db = sqlite3.connect(folder / "db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE t (x)")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("INSERT INTO t VALUES (1)")
    ctypes.CDLL(None).powercut_mark(b"committed")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ctypes.CDLL(None).powercut_mark(b"checkpointed")
    db.execute("INSERT INTO t VALUES (2)")
    ctypes.CDLL(None).powercut_end()


def threads(folder: Path) -> None:
    def write(number: int) -> None:
        fd = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT, 0o600)
        for turn in range(100):
            os.pwrite(fd, bytes([number + 1]) * 3000, turn * 1000)
            os.pwrite(shared, bytes([number + 1]) * 100, 0)
        os.close(fd)

    shared = os.open(folder / "shared", os.O_WRONLY | os.O_CREAT, 0o600)
    workers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


# -- what is to be seen of it ----------------------------------------------------------------------


def test_every_change_and_barrier_is_recorded_in_order(record: Record) -> None:
    """Calls of Python and of ctypes, by name, by descriptor and relative; failed ones are none."""
    assert kinds(run(record, "every_call")) == [
        Kind.MKDIR,  # the folder itself
        *(Kind.MKDIR, Kind.CREATE, Kind.WRITE, Kind.WRITE, Kind.WRITE, Kind.WRITE),
        *(Kind.TRUNCATE, Kind.ALLOCATE, Kind.ALLOCATE),
        *(Kind.SETXATTR, Kind.SETXATTR, Kind.REMOVEXATTR, Kind.CHMOD),
        *(Kind.FSYNC, Kind.FDATASYNC, Kind.SYNCFS, Kind.RANGE),
        *(Kind.LINK, Kind.RENAME, Kind.UNLINK, Kind.UNLINK, Kind.FSYNC),
        *(Kind.CREATE, Kind.TRUNCATE, Kind.WRITE, Kind.RENAME, Kind.CREATE, Kind.WRITE),
    ]


def test_what_sqlite_does_is_recorded(record: Record) -> None:
    """Its writes and syncs, also of the folder: the WAL before a commit ends, the index in a checkpoint."""
    ops = run(record, "database")
    names = {op.inode: op.path or "folder" for op in ops if op.kind in (Kind.CREATE, Kind.MKDIR)}
    said = [f"{op.kind.name} {names.get(op.inode, op.path)}" for op in ops]
    committed, checkpointed = said.index("MARK committed"), said.index("MARK checkpointed")
    assert "FDATASYNC db-wal" in said[:committed]
    assert "FDATASYNC folder" in said[:committed]
    checkpoint = said[committed:checkpointed]
    assert checkpoint.index("WRITE db") < checkpoint.index("FDATASYNC db")
    assert "TRUNCATE db-wal" in checkpoint
    assert not any("-shm" in line for line in said)


def test_threads_leave_one_record_that_is_what_happened(record: Record) -> None:
    """Of writes to one place the last one in the record is the one that lasted."""
    ops = run(record, "threads")
    assert len([op for op in ops if op.kind is Kind.WRITE]) == 800


def test_several_processes_make_one_record(record: Record) -> None:
    """A second process goes on with the files of the first, and no number is used twice."""
    run(record, "database")
    ops = run(record, "threads")
    created = [op.inode for op in ops if op.kind is Kind.CREATE]
    assert len(set(created)) == len(created)
    assert [op.kind for op in ops].count(Kind.EXIT) == 2
    assert {"db", "db-wal", "shared"} <= set(whole(ops).names)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
