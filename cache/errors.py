"""What can go wrong in the local store.

sqlite3 and OSError never leave this package: they become one of these where they enter, ``from exc``.

    CacheError
    ├── CacheUnusable   this folder cannot be a cache (or not for this user or program)
    ├── CacheFull       no space or quota is left for the bytes (ENOSPC, EDQUOT)
    └── CacheBroken     the disk or the index failed (EIO, a damaged index)

None of them says anything about an origin: where it still answers, a reader can be served past the
cache.
"""

from __future__ import annotations

import errno
import sqlite3


class CacheError(Exception):
    """Base of every expected failure of the store; ``str()`` is one line."""


class CacheUnusable(CacheError):
    """The folder cannot be used as a cache; the message says why and what to do next."""


class CacheFull(CacheError):
    """The file system of the cache, or the user's quota on it, is used up."""


class CacheBroken(CacheError):
    """The disk or the index failed: what was asked for did not happen."""


class BadPattern(ValueError):
    """A glob that can match nothing; the message says why."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


def of_os(exc: OSError, what: str) -> CacheError:
    """The error to raise from ``exc``, which happened while doing ``what`` ("write …")."""
    if exc.errno in _FULL:
        return CacheFull(f"cannot {what}: {exc.strerror}")
    return CacheBroken(f"cannot {what}: {exc.strerror or exc}")


_FULL_INDEX = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite makes of ENOSPC, and what of it beside the index: in the memory that processes share."""
_MAYBE_FULL = (*_FULL_INDEX, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN)
"""The same, and what it makes of a quota or of inodes that are used up, among other things."""


def may_be_full(exc: sqlite3.Error) -> bool:
    """Whether room would help."""
    return getattr(exc, "sqlite_errorcode", None) in _MAYBE_FULL


def of_sqlite(exc: sqlite3.Error, what: str) -> CacheError:
    """The error to raise from ``exc``, which happened while doing ``what`` ("read the index")."""
    if getattr(exc, "sqlite_errorcode", None) in _FULL_INDEX:
        return CacheFull(f"cannot {what}: the disk is full")
    return CacheBroken(f"cannot {what}: {exc}")
