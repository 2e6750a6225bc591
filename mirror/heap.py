"""The C library's heap: buffers stay in it, and what a large page has left in it goes back to the system.

Each answer of an origin needs a buffer. By default the heap gives every free mebibyte at its end back to the
system and takes it again for the next one, whose pages then have to be made anew: in a virtual machine that
may cost as much as all else that is done for them.

But the memory of one page of a hundred thousand names would stay with the process for good: freed pieces
between pieces in use are kept for the next who asks, and there may be no next one of that size.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

_LIBC = ctypes.CDLL(None)
_trim: Callable[[int], int] | None = getattr(_LIBC, "malloc_trim", None)
_option: Callable[[int, int], int] | None = getattr(_LIBC, "mallopt", None) if _trim is not None else None


_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
KEPT = 16 * 1024 * 1024
"""Bytes at the end of the heap that are kept. More makes nothing faster."""
BUFFERS = 4 * 1024 * 1024
"""Larger ones come from the system and go back to it."""


def keep_buffers() -> None:
    """Keep the memory of buffers for the next ones. Where the C library is not glibc, nothing changes."""
    if _option is not None:
        _option(_M_MMAP_THRESHOLD, BUFFERS)
        _option(_M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Give back all that is free: some milliseconds, in which nothing else runs.

    First what only errors and their frames keep, which keep each other; they may hold a mebibyte each. Where
    the C library is not glibc, that is all.
    """
    gc.collect()
    if _trim is not None:
        _trim(0)
