"""Limits of the process that are ours to raise."""

from __future__ import annotations

import resource

ENOUGH = 65_536
"""Descriptors; a hard limit may be a million, and some programs below us walk all of them."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors: connections, objects and leases each hold some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
