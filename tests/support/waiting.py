"""Waiting for what another process does: by looking, against a deadline, and loudly.

A test never sleeps and hopes. What cannot be waited for by an event (a row of `status`, an entry of
the mount table, a kernel that releases a file a moment after `close`) is looked at until it is as
it should be; the deadline is long, because it is only ever reached by a defect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds until a condition that should come true at once counts as never coming true."""

_INTERVAL = 0.02
"""Seconds between two looks."""


def eventually(look: Callable[[], T], what: str, *, seconds: float = DEADLINE) -> T:
    """Look again and again until the answer is true, and return it.

    Raises:
        AssertionError: with ``what`` and the last answer, when the deadline has passed.
    """
    until = time.monotonic() + seconds
    while True:
        if answer := look():
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what} (last seen: {answer!r})")
        time.sleep(_INTERVAL)
