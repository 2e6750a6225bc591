"""Whether anybody serves a mount from a cache: a lock on its folder of claims, shared by all who do.

The kernel of a mount may remember any node that it was ever told of. So rows of past versions are only
forgotten while nobody serves.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache import errors
from cache.folder import CLAIMS


@contextmanager
def serving(cache: Path) -> Iterator[None]:
    """Serve from an open cache. Waits for who forgets nodes at this moment; blocks.

    Raises:
        CacheBroken: the folder cannot be opened.
    """
    fd = _opened(cache)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextmanager
def unserved(cache: Path) -> Iterator[bool]:
    """Whether nobody serves from a cache; nobody begins to until the context ends. Raises as `serving`."""
    fd = _opened(cache)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _opened(cache: Path) -> int:
    try:
        return os.open(cache / CLAIMS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise errors.of_os(exc, f"open {cache / CLAIMS}") from exc
