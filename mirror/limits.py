"""Limits of the process that are ours to set."""

from __future__ import annotations

import fcntl
import os
import resource

ENOUGH = 65_536
"""Descriptors; a hard limit may be a million, and some programs below us walk all of them."""
TABLE = 16_384
"""Descriptors that the kernel's table for this process has room for from the start."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors: connections, objects and leases each hold some.

    To be called before there are threads: the kernel makes its table of descriptors larger at every power of
    two, and whoever needs that waits 10 to 20 ms for it when there are. So it is made large at once.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(TABLE, _soft_limit()) - 1))
    except OSError:  # other limits, or no memory: then it grows when it has to
        pass
    finally:
        os.close(fd)


def _soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return TABLE if soft == resource.RLIM_INFINITY else soft
