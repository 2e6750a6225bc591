"""What some file systems do differently from ext4.

btrfs takes new room for all that is written, also once more. SQLite's connections share memory in a file
that they map, and on a full disk a write to that kills the process (SIGBUS), unless the file is one that is
written in place (seen on Linux 6.18).

The room of what was deleted is there, and seen to be there, only later: on btrfs with the next transaction,
in 30 s maybe; on XFS when its threads come to it, in some milliseconds. Whoever deletes until there is enough
would delete everything.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache import libc, statfs

_FLAGS = struct.Struct("i")
_GET_FLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_SET_FLAGS = 1 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 2
_NOCOW = 0x00800000
"""``FS_IOC_GETFLAGS``, ``FS_IOC_SETFLAGS`` (which say long, and take an int) and ``FS_NOCOW_FL`` of
``linux/fs.h``."""

_PAUSES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds between looks whether XFS has given back what it is to."""


def write_in_place(folder: Path) -> None:
    """Have what is made in a folder from now on written in place, if it is on btrfs and can be told so.

    What is in it already stays as it is, with all that will be made below.
    """
    with suppress(OSError):
        if statfs.magic(folder) != statfs.BTRFS:
            return
        with _opened(folder) as fd:
            (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GET_FLAGS, _FLAGS.pack(0)))
            if not flags & _NOCOW:
                fcntl.ioctl(fd, _SET_FLAGS, _FLAGS.pack(flags | _NOCOW))


def free(folder: Path) -> int:
    """Bytes that are free for this user on the disk of a folder; 0: that cannot be told."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def settle(folder: Path, expected: int) -> None:
    """Wait until the room of what was deleted is there, as far as that is not so at once. Blocks.

    Args:
        folder: on which disk.
        expected: so many bytes should be `free`. Others may take some at the same time: where that can only
            be waited for, it is not for long.
    """
    with suppress(OSError):
        kind = statfs.magic(folder)
        if kind == statfs.BTRFS:
            with _opened(folder) as fd:
                libc.syncfs(fd)
        elif kind == statfs.XFS:
            for pause in _PAUSES:
                if free(folder) >= expected:
                    return
                time.sleep(pause)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
