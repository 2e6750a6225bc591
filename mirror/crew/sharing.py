"""How many processes share a run, and what of its jobs and connections each has."""

from __future__ import annotations

import os

from mirror.traffic import Traffic

MOST_PROCESSES = 4
"""Of a run, unless the user says otherwise: with more it is the disk or the link that bounds it."""
CPUS_EACH = 2
"""A process has threads that send, receive, read and write beside its event loop."""


def size_of_crew(processes: int | None, jobs: int, traffic: Traffic) -> int:
    """How many processes share a run, this one included.

    Args:
        processes: what the user says; None: one for every two CPUs.
        jobs: files fetched at once; each process has one at least.
        traffic: each needs two connections, and a limit of bytes a second is one process's.
    """
    if traffic.bwlimit is not None:
        return 1
    wanted = processes
    if wanted is None:
        wanted = min(len(os.sched_getaffinity(0)) // CPUS_EACH, MOST_PROCESSES)
    return max(1, min(wanted, jobs, traffic.connections // 2))


def helpers_share(total: int, processes: int) -> int:
    """How many of the jobs or connections of a run each helper has."""
    return total // processes


def left_for_caller(total: int, processes: int, helping: int) -> int:
    """How many of them the caller has while some of its helpers are there."""
    return total - helping * helpers_share(total, processes)
