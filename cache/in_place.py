"""A folder whose new files btrfs writes in place.

By itself it takes new room for whatever is written once more. SQLite's connections share memory in a file
that they map, and on a full disk such a write kills the process (SIGBUS). In place it needs no room, on Linux
6.18 as seen. Other file systems write in place anyhow.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

_FLAGS = struct.Struct("i")
_GET_FLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_SET_FLAGS = 1 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 2
_NOCOW = 0x00800000
"""``FS_IOC_GETFLAGS``, ``FS_IOC_SETFLAGS`` (which say long, and take an int) and ``FS_NOCOW_FL`` of
``linux/fs.h``."""


def write_in_place(folder: Path) -> None:
    """Have what is made in a folder from now on written in place, where that can be said.

    What is in it already stays as it is, with all that will be made below.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GET_FLAGS, _FLAGS.pack(0)))
            if not flags & _NOCOW:
                fcntl.ioctl(fd, _SET_FLAGS, _FLAGS.pack(flags | _NOCOW))
    finally:
        os.close(fd)
