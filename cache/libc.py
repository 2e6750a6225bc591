"""Calls of the C library that Python's `os` leaves out."""

from __future__ import annotations

import ctypes

_LIBC = ctypes.CDLL(None)
_LIBC.syncfs.argtypes = (ctypes.c_int,)
_LIBC.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2


def syncfs(fd: int) -> bool:
    """Have all that was done to the file system of a descriptor on disk; False: some of it was lost."""
    status: int = _LIBC.syncfs(fd)
    return status == 0


def begin_writing(fd: int) -> None:
    """Give a file's bytes to the disk, without waiting for it."""
    _LIBC.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)
