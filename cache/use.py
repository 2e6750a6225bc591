"""Who has a cache open: a lock on its folder of objects, shared by all processes that use it.

An index can be replaced by another one only while nobody has the old one open: such a process would go on
with names and ids that nobody else knows, and SQLite, when it closes the last connection to the old one,
would remove the write-ahead log of the new one, by its name.

The lock is an ``flock`` on a descriptor of its own of ``CACHE/objects``, and ends with its process. It is
taken and changed only in the turn of `cache.index.turn`, so nobody waits for it and nobody slips in between.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cache.layout import OBJECTS


class Use:
    """The part of one opener in the lock. Nothing is locked until `share` or `alone`."""

    def __init__(self, cache: Path) -> None:
        """Raises OSError."""
        self._fd = os.open(cache / OBJECTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def share(self) -> None:
        """Say that this process uses the cache, until `close`."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Have the cache for oneself alone; False: somebody else uses it, in this process or another."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """End the use; a second time is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
