"""Where objects are, and how their files are opened.

A complete object is ``objects/ab/abcd…``, 40 hexadecimal digits of `Node.key`; until then ``.part``
stands behind it. No remote name ever becomes a path. Every descriptor is closed on exec and never
follows a symbolic link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import NamedTuple

from cache import errors
from cache.folder import OBJECTS

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOATIME | os.O_NONBLOCK
"""NONBLOCK: should somebody have put a pipe there, opening it must not wait."""
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW

_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Failures to open a file that say nothing about the file."""


class Paths(NamedTuple):
    """The two names of one object."""

    part: str
    final: str


class Names:
    """The names of all objects of one cache."""

    def __init__(self, cache: Path) -> None:
        self.folder = str(cache / OBJECTS)

    def of(self, key: bytes) -> Paths:
        """The names of an object."""
        digits = key.hex()
        final = f"{self.folder}/{digits[:2]}/{digits}"
        return Paths(f"{final}.part", final)


def open_read(path: str) -> int | None:
    """Open for reading; None when there is no such file, or none that could be read.

    Raises:
        CacheBroken: this process has no descriptors or memory left.
    """
    try:
        return os.open(path, _READ)
    except OSError as exc:
        if exc.errno in _OURS:
            raise errors.of_os(exc, f"open {path}") from exc
        return None


def open_write(path: str) -> int:
    """Open an object's file for writing. Raises OSError."""
    return os.open(path, _WRITE)


def share(fd: int) -> bool:
    """Say that an object is in use, for as long as this open file lives, wherever its descriptor goes.

    Whoever removes objects to make room takes the same lock for itself first (`alone`), and leaves alone
    what it cannot have. False: somebody seals the object at this moment, or removes it.
    """
    return _locked(fd, fcntl.LOCK_SH)


def alone(fd: int) -> bool:
    """Whether nobody else has an object in use, seals or removes it.

    Nobody can begin to until this open file is closed.
    """
    return _locked(fd, fcntl.LOCK_EX)


def taken(path: str) -> bool:
    """Whether a living process fills, seals or removes what has a name; nobody is held up by the question."""
    fd = open_read(path)
    if fd is None:
        return False
    try:
        return not share(fd)
    finally:
        os.close(fd)


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trustworthy(status: os.stat_result) -> bool:
    """Whether a file can be ours alone: regular, owned by us, not writable by others."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def unlink(path: str) -> None:
    """Remove a name if it is there. Raises `CacheBroken` when that fails."""
    try:
        os.unlink(path)  # noqa: PTH108 - a Path for every object costs more than the call
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise errors.of_os(exc, f"remove {path}") from exc
