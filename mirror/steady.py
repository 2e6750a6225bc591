"""What keeps every step of the event loop short, set once for a process that serves a mount."""

from __future__ import annotations

import gc
import sys

from mirror import heap
from mirror.limits import raise_descriptor_limit

SWITCH_SECONDS = 0.001
"""How long the event loop waits for a thread that computes, at most; Python's own limit is 5 ms."""


GARBAGE = 20_000
"""Objects made before Python looks for cycles among them; its own limit is 700."""


def keep_steps_short() -> None:
    """To be called when everything is imported, and before there are threads."""
    raise_descriptor_limit()
    heap.keep_buffers()
    sys.setswitchinterval(SWITCH_SECONDS)
    # What was imported stays: looking through it for garbage takes 12 to 40 ms each time, in any thread, and
    # finds nothing.
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)
