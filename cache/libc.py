"""A call of the C library that Python's `os` leaves out."""

from __future__ import annotations

import ctypes

_LIBC = ctypes.CDLL(None)
_LIBC.syncfs.argtypes = (ctypes.c_int,)


def syncfs(fd: int) -> bool:
    """Have all that was done to the file system of a descriptor on disk; False: some of it was lost."""
    status: int = _LIBC.syncfs(fd)
    return status == 0
