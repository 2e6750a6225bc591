"""What the processes of a crew say to each other, and how many they are."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from mirror.crew import forked, helpers_share, left_for_caller, size_of_crew
from mirror.crew.messages import LONGEST, MOST, packed, unpacked
from mirror.traffic import Traffic


def test_any_line_fits_into_a_packet() -> None:
    assert len(packed({"level": 2**31, "says": "\ud800" * LONGEST})) < MOST
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
        (None, 99, 99, None, min(4, len(os.sched_getaffinity(0)))),
    ],
)
def test_how_many(said: int | None, jobs: int, connections: int, bwlimit: str | None, expected: int) -> None:
    assert size_of_crew(said, jobs, Traffic(connections, bwlimit)) == expected


@pytest.mark.parametrize(("connections", "helpers"), [(16, 1), (16, 3), (2, 1), (5, 1), (256, 7)])
def test_nobody_has_more_connections_than_there_are(connections: int, helpers: int) -> None:
    share = helpers_share(connections, helpers + 1)
    assert share >= 1
    files = left_for_caller(connections, helpers)
    assert files >= 1
    listing = 1 if files > 1 else 0  # with one in all it takes turns
    assert helpers * share + files + listing <= connections


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
