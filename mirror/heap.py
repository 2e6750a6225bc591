"""The C library's heap: what a large page has left in it goes back to the system at once.

Else the memory of one page of a hundred thousand names stays with the process for good: freed pieces between
pieces in use are kept for the next who asks, and there may be no next one of that size.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

_trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Give back all that is free: some milliseconds, in which nothing else runs.

    First what only errors and their frames keep, which keep each other; they may hold a mebibyte each. Where
    the C library is not glibc, that is all.
    """
    gc.collect()
    if _trim is not None:
        _trim(0)
