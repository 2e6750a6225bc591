"""The right to fill an object: an ``flock`` on its file, so that it ends with its process.

Whoever holds the lease of the ``.part`` name is the only one, in any process, who may create, rename
or unlink either name of the object. The lock follows the file through its rename to the final name
and is kept until the object is sealed; so a final name that is locked is being sealed by a process
that lives, and one that is not locked and not sealed was left by one that died.

The lock has a descriptor of its own, opened for reading: all writers are closed before an object is
opened for its readers, while the lease goes on.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from cache import _files, errors
from cache.errors import CacheBroken
from cache.file_thread import Job
from cache.names import unlink


class Lease:
    """A lease that is held; it ends with `release` or the process."""

    __slots__ = ("fd", "inode", "path", "size")

    def __init__(self, path: str, fd: int, inode: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.inode = inode
        self.size = size
        """Length of the file when the lease was taken; 0: it is new, or nothing is in it."""

    @classmethod
    def take(cls, path: str) -> Lease | None:
        """Take the lease of a ``.part`` name, made when it is not there; None: another has it.

        Raises:
            CacheFull: no space for a new file.
            CacheBroken: the file cannot be made, or belongs to somebody else.
        """
        job: Job = _files.take(path, None, False)
        taken = Taken.of(path, job.run())
        return None if taken is None else taken.lease

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

    def handed_over(self) -> list[int]:
        """Its descriptor, if there is one: whoever closes that ends the lease."""
        fd, self.fd = self.fd, -1
        return [fd] if fd >= 0 else []


class Taken(NamedTuple):
    """A lease, and what was opened on the way; the owner closes the descriptors."""

    lease: Lease
    writer: int
    """Writes to the file; -1: there is none."""
    found: int
    """Reads what has the final name; -1: there is nothing."""

    @classmethod
    def of(cls, path: str, job: Job) -> Taken | None:
        """What a finished job of `_files.take` has brought; None: another has the lease.

        Raises:
            CacheFull, CacheBroken: as `Lease.take` does.
        """
        if job.error == errno.EWOULDBLOCK and job.stage == "lease":
            return None
        fd, inode, size, trusted, writer, found = job.lease()
        taken = cls(Lease(path, fd, inode, size), writer, found)
        if not job.error and trusted:
            return taken
        taken.close()
        if not job.error:
            raise CacheBroken(f"{path} is not a file of this user alone: remove it")
        exc = OSError(job.error, os.strerror(job.error))
        raise errors.of_os(exc, f"take the lease of {path}") from exc

    def close(self) -> None:
        """End the lease, and close what was opened."""
        self.lease.release()
        for fd in (self.writer, self.found):
            if fd >= 0:
                os.close(fd)
