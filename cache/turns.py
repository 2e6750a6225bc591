"""Who among the processes of one cache does a piece of work that would otherwise be done by several at once.

A turn is a number, and a lock on the byte at that offset of one empty file: it ends with its process, costs
one system call, and says nothing about whether the work was done. It saves work and guards nothing: where
the file cannot be made (a full disk), everybody has every turn.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from pathlib import Path

from cache import layout

log = logging.getLogger(__name__)

LISTINGS = 1 << 62
"""From here on a number stands for the listing of a folder; below, for neighbouring files."""

_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of fcntl(2): type, whence, start, length, pid."""

_TAKEN = (errno.EAGAIN, errno.EACCES)


class Turns:
    """The turns of one process. For the event loop alone."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / layout.TURNS
        self._fd: int | None = None
        self._mine: set[int] = set()

    def take(self, number: int) -> bool:
        """Take a turn; False: another process has it, or this one."""
        if number in self._mine:
            return False
        try:
            self._lock(number, fcntl.F_WRLCK)
        except OSError as exc:
            if exc.errno in _TAKEN:
                return False
            log.debug("turns cannot be taken: %s", exc)
        self._mine.add(number)
        return True

    def give_back(self, number: int) -> None:
        """End a turn that was taken."""
        self._mine.remove(number)
        try:
            self._lock(number, fcntl.F_UNLCK)
        except OSError as exc:
            log.debug("turns cannot be given back: %s", exc)

    def _lock(self, number: int, how: int) -> None:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # Of the open file, not of the process: another cache object of this process is another user.
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(how, os.SEEK_SET, number, 1, 0))

    def close(self) -> None:
        """End all turns."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._mine.clear()
