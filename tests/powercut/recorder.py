"""Running programs under the recorder (``record.c``), and reading what it recorded.

A record is one file: every change below one folder, in the order in which the changes were completed,
with the bytes, and every barrier. Several processes, one after the other, make one record.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("record.c")
FLAGS = [
    "-std=gnu11",
    "-O1",
    "-U_FORTIFY_SOURCE",
    "-fPIC",
    "-shared",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
]
_HEAD = struct.Struct("=IIIIQQqq")


class Kind(IntEnum):
    """What an operation is. The values are those of ``record.c``."""

    CREATE = 1
    MKDIR = 2
    WRITE = 3
    TRUNCATE = 4
    ALLOCATE = 5
    RENAME = 6
    LINK = 7
    UNLINK = 8
    SETXATTR = 9
    REMOVEXATTR = 10
    CHMOD = 11
    FSYNC = 12
    FDATASYNC = 13
    SYNCFS = 14
    RANGE = 15
    """``sync_file_range``: no barrier, for it neither waits for the journal nor empties a disk's cache."""
    OPEN = 16
    CLOSE = 17
    MARK = 18
    """A word of the recorded program."""
    EXIT = 19
    """The process ended, and with it all its descriptors."""


BARRIERS = frozenset({Kind.FSYNC, Kind.FDATASYNC, Kind.SYNCFS})


@dataclass(frozen=True, slots=True)
class Op:
    """One operation that succeeded."""

    kind: Kind
    inode: int = 0
    path: str = ""
    """Name below the recorded folder (of a rename the old one); of ``MARK`` its text, of ``ALLOCATE`` the
    mode."""
    other: str = ""
    """The new name of a rename; the name of an attribute."""
    data: bytes = b""
    offset: int = 0
    length: int = 0
    """Bytes; of ``CREATE``, ``MKDIR`` and ``CHMOD`` the mode."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record is: all in one folder, on one file system."""

    folder: Path

    @property
    def root(self) -> Path:
        """The recorded folder."""
        return self.folder / "root"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def keep(self) -> Path:
        """Every file that was ever made below the root, under its inode number."""
        return self.folder / "keep"

    @property
    def library(self) -> Path:
        return self.folder / "record.so"

    @classmethod
    def new(cls, folder: Path) -> Record:
        """An empty record; builds the recorder. ``folder`` must exist."""
        record = cls(folder.resolve())
        record.root.mkdir(mode=0o700)
        record.keep.mkdir(mode=0o700)
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
        assert compiler, "building needs a C compiler"
        subprocess.run([compiler, *FLAGS, SOURCE, "-o", record.library], check=True)
        return record

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a program to its end, recorded. Raises `AssertionError` with what it said when it fails."""
        self._run(command, {"POWERCUT_ROOT": str(self.root), "POWERCUT_KEEP": str(self.keep)})
        with self.log.open("ab") as log:
            log.write(_pack(Op(Kind.EXIT)))

    def run_idle(self, command: Sequence[str | Path]) -> str:
        """Run a program that waits for no disk; what it printed. Raises as `run` does."""
        return self._run(command, {"POWERCUT_IDLE": "1"})

    def _run(self, command: Sequence[str | Path], more: Mapping[str, str]) -> str:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "POWERCUT_LOG": str(self.log),
            **more,
        }
        top = Path(__file__).parents[2]
        done = subprocess.run(command, env=environment, cwd=top, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, ops: Sequence[Op]) -> None:
        """Have the record begin with what is in the folder already, as if it had been made and synced."""
        self.log.write_bytes(b"".join(map(_pack, ops)))
        self._begun.write_text(str(len(ops)))

    @property
    def begun(self) -> int:
        """How many operations `begin` wrote: before these are over there was nothing to be cut."""
        return int(self._begun.read_text()) if self._begun.exists() else 0

    @property
    def _begun(self) -> Path:
        return self.folder / "begun"

    def read(self) -> list[Op]:
        """All that was recorded."""
        return list(_parse(self.log.read_bytes()))


def _pack(op: Op) -> bytes:
    path, other = op.path.encode(), op.other.encode()
    head = _HEAD.pack(op.kind, len(path), len(other), 0, len(op.data), op.inode, op.offset, op.length)
    return head + path + other + op.data


def _parse(raw: bytes) -> Iterator[Op]:
    at = 0
    while at < len(raw):
        kind, path, other, _, data, inode, offset, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        first, second = raw[at : at + path].decode(), raw[at + path : at + path + other].decode()
        at += path + other
        yield Op(Kind(kind), inode, first, second, raw[at : at + data], offset, length)
        at += data
