"""Which errno an action fails with: what the tests of errors assert."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path


def errno_of(action: Callable[[], object]) -> str:
    """The name of the errno that an action fails with (``"EIO"``), or ``""`` when it works."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def errno_of_reading(path: Path) -> str:
    """The same for opening and reading all of a file."""
    return errno_of(path.read_bytes)


def errno_of_listing(path: Path) -> str:
    """The same for listing a folder."""
    return errno_of(lambda: list(path.iterdir()))
