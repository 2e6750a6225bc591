"""Room kept back for the moment in which a disk is full.

Making room needs some: a lease is a file, a row that is deleted is first written to the log of the index,
and an index that nobody has open cannot even be read without a page of shared memory beside it. So a
cache keeps a few files that hold nothing. They are unlinked when something of this kind fails for want
of room, and made again when there is plenty.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from cache import disks, statfs
from cache.folder import OBJECTS
from cache.names import alone, open_read

log = logging.getLogger(__name__)

NAME = "reserve"
"""The folder, in that of the cache."""
FILES = 4
"""Also inodes can be used up."""
SIZE = 128 * 1024
"""Bytes of each. XFS makes no file without some 60 free blocks, though it takes a few of them."""
PLENTY = 8
"""So many times what the files take has to be free before they are made, bytes and inodes."""


SHORT = 128 * 1024
SHORT_ON_XFS = 384 * 1024
"""So few bytes free, and what opening an index takes may not be there."""
SHORT_OF_INODES = 4


class Reserve:
    """The files of one cache. Never raises: without them everything is as it would have been."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._files = [cache / NAME / str(number) for number in range(FILES)]

    def fill(self, plenty: int = PLENTY) -> None:
        """Make what is missing, where there is plenty of room."""
        with suppress(OSError):
            if all(file.exists() for file in self._files):
                return
            folder = self._files[0].parent
            room = os.statvfs(folder.parent)
            if room.f_bavail * room.f_frsize < plenty * FILES * SIZE:
                return
            if room.f_files and room.f_favail < plenty * FILES:
                return
            folder.mkdir(mode=0o700, exist_ok=True)
            for file in self._files:
                _make(file)

    def open_up(self) -> None:
        """Make sure that there is room to open an index, before that is tried.

        On a file system whose blocks are smaller than pages, trying it without room kills the process
        (`cache.index.allocate_shared`). Where the files are not there, objects that nobody has in use go:
        partial ones first. Their rows stay, and are found to be of nothing at the next open.
        """
        with suppress(OSError):
            if not self._short() or (self.spend() and not self._short()):
                return
            objects = self._cache / OBJECTS
            for path in sorted(objects.glob("*/*"), key=lambda path: path.suffix != ".part"):
                _remove_unused(path)
                if not self._short():
                    log.warning("the disk of the cache is full: cached objects made room for the index")
                    return

    def _short(self) -> bool:
        short = SHORT_ON_XFS if statfs.magic(self._cache) == statfs.XFS else SHORT
        room = os.statvfs(self._cache)
        return room.f_bavail * room.f_frsize < short or bool(room.f_files and room.f_favail < SHORT_OF_INODES)

    def spend(self) -> bool:
        """Unlink the files; False: there were none."""
        spent, before = False, disks.free(self._cache)
        for file in self._files:
            with suppress(OSError):
                file.unlink()
                spent = True
        if spent:
            disks.settle(self._cache, before + FILES * SIZE)
            log.info("the disk of the cache is full: what was kept back for that is used")
        return spent


def _remove_unused(path: Path) -> None:
    """Whoever fills, seals, serves or removes an object has its lock."""
    fd = open_read(str(path))
    if fd is None:
        return
    try:
        if os.fstat(fd).st_size and alone(fd):
            path.unlink()
    finally:
        os.close(fd)


def _make(file: Path) -> None:
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    try:
        os.posix_fallocate(fd, 0, SIZE)
    except OSError:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
