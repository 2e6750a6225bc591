"""Limits and habits of the process that are ours to set."""

from __future__ import annotations

import gc
import resource
import sys

ENOUGH = 65_536
"""Descriptors; a hard limit may be a million, and some programs below us walk all of them."""

SWITCH_SECONDS = 0.001
"""How long the event loop waits for a thread that computes, at most; Python's own limit is 5 ms."""
GARBAGE = 20_000
"""Objects made before Python looks for cycles among them; its own limit is 700."""


def run_for_long() -> None:
    """Set the interpreter up for an event loop beside threads.

    What is there by now stays: the collector need not look at it again and again.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors: connections, objects and leases each hold some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
