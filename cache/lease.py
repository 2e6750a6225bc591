"""The right to fill an object: an ``flock`` on its file, so that it ends with its process.

Whoever holds the lease of the ``.part`` name is the only one, in any process, who may create, rename
or unlink either name of the object. The lock follows the file through its rename to the final name
and is kept until the object is sealed; so a final name that is locked is being sealed by a process
that lives, and one that is not locked and not sealed was left by one that died.

The lock has a descriptor of its own, opened for reading: all writers are closed before an object is
opened for its readers, while the lease goes on.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cache import errors
from cache.errors import CacheBroken
from cache.names import trustworthy, unlink

_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Lease:
    """A lease that is held; it ends with `release` or the process."""

    __slots__ = ("fd", "inode", "path", "size")

    def __init__(self, path: str, fd: int, status: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self.inode = status.st_ino
        self.size = status.st_size
        """Length of the file when the lease was taken; 0: it is new, or nothing is in it."""

    @classmethod
    def take(cls, path: str) -> Lease | None:
        """Take the lease of a ``.part`` name, made when it is not there; None: another has it.

        Raises:
            CacheFull: no space for a new file.
            CacheBroken: the file cannot be made, or belongs to somebody else.
        """
        try:
            while True:
                fd = _open(path)
                try:
                    lease = cls._lock(path, fd)
                except BlockingIOError:
                    os.close(fd)
                    return None
                except BaseException:
                    os.close(fd)
                    raise
                if lease is not None:
                    return lease
                os.close(fd)
        except OSError as exc:
            raise errors.of_os(exc, f"take the lease of {path}") from exc

    @classmethod
    def _lock(cls, path: str, fd: int) -> Lease | None:
        """None: between open and lock the file got another name, or none."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if not trustworthy(status):
            raise CacheBroken(f"{path} is not a file of this user alone: remove it")
        try:
            if os.lstat(path).st_ino != status.st_ino:
                return None
        except FileNotFoundError:
            return None
        return cls(path, fd, status)

    def remove(self) -> None:
        """Unlink the ``.part`` name and end the lease."""
        try:
            unlink(self.path)
        finally:
            self.release()

    def release(self) -> None:
        """End the lease; a second time is no error."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        Path(path).parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, _FLAGS, 0o600)
