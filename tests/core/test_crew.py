"""What the processes of a crew say to each other, and how many they are."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from mirror.crew import forked, helpers_share, left_for_caller, size_of_crew
from mirror.crew.messages import LONGEST, MOST, packed, unpacked
from mirror.namespace import LONGEST_PATH
from mirror.traffic import Traffic


def test_any_line_fits_into_a_packet() -> None:
    assert len(packed({"level": 2**31, "says": "\ud800" * LONGEST})) < MOST
    long = {"failed": 2**63, "path": "\1" * LONGEST_PATH, "why": "\1" * LONGEST, "origin": False}
    assert len(packed(long)) < MOST
    assert unpacked(packed({"says": "näher \0 \U0001f600 am Ende"})) == {
        "says": "näher \0 \U0001f600 am Ende"
    }


@pytest.mark.parametrize(
    ("said", "jobs", "connections", "bwlimit", "expected"),
    [
        (3, 8, 16, None, 3),
        (3, 2, 16, None, 2),
        (9, 8, 6, None, 3),
        (3, 8, 1, None, 1),
        (3, 8, 16, "1M", 1),
        (None, 1, 16, None, 1),
        (None, 99, 99, None, max(1, min(4, len(os.sched_getaffinity(0)) // 2))),
    ],
)
def test_how_many(said: int | None, jobs: int, connections: int, bwlimit: str | None, expected: int) -> None:
    assert size_of_crew(said, jobs, Traffic(connections, bwlimit)) == expected


@pytest.mark.parametrize(("total", "processes"), [(16, 2), (16, 4), (2, 2), (5, 2), (256, 8)])
def test_all_together_have_what_there_is(total: int, processes: int) -> None:
    share = helpers_share(total, processes)
    assert share >= 1
    for helping in range(processes):
        assert left_for_caller(total, processes, helping) + helping * share == total
    assert left_for_caller(total, processes, processes - 1) >= share


def test_a_process_with_threads_is_not_forked() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:

        async def work(_connection: socket.socket) -> None:
            raise AssertionError

        with forked(3, work) as helpers:
            assert helpers == []
    finally:
        done.set()
        thread.join()
