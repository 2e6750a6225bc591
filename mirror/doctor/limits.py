"""Limits that bound how many files the kernel reads by itself, and how large a reply may be."""

from __future__ import annotations

import resource
from pathlib import Path

from mirror.doctor.finding import Finding, Verdict

FEW_FILES = 4096
"""A hard limit of open files below this keeps large data sets from being registered at once."""
MESSAGE_BYTES = 1024 * 1024 + 4096
"""A reply to the largest READ, with its header."""


def open_files(hard: int) -> Finding:
    """Judge RLIMIT_NOFILE: each file that the keeper holds takes one of its descriptors."""
    if hard == resource.RLIM_INFINITY:
        return Finding("open files", Verdict.OK, "unlimited")
    if hard >= FEW_FILES:
        return Finding("open files", Verdict.OK, f"hard limit {hard:,}")
    return Finding(
        "open files",
        Verdict.WARN,
        f"hard limit {hard:,}: so many files at most are read by the kernel alone at one time",
        "raise it ('LimitNOFILE=' in a unit, '--ulimit nofile=' for a container, /etc/security/limits.conf)",
    )


def hard_limit() -> int:
    """The hard RLIMIT_NOFILE of this process; the keeper raises its own soft limit up to it."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def socket_buffer(wmem_max: int | None, *, root: bool) -> Finding:
    """Judge net.core.wmem_max: without CAP_NET_ADMIN it bounds a message between worker and keeper."""
    check = "net.core.wmem_max"
    if root or wmem_max is None:
        return Finding(check, Verdict.OK, "does not matter for root" if root else "cannot be read")
    if wmem_max * 2 >= MESSAGE_BYTES:
        return Finding(check, Verdict.OK, f"{wmem_max:,}")
    return Finding(
        check,
        Verdict.WARN,
        f"{wmem_max:,}: without root, reads reach the daemon in smaller pieces",
        "sysctl -w net.core.wmem_max=4194304",
    )


def read_wmem_max() -> int | None:
    """The setting, or None where it does not show (some containers)."""
    try:
        return int(Path("/proc/sys/net/core/wmem_max").read_text("ascii"))
    except (OSError, ValueError):
        return None
