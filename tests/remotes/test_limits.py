"""How much is asked of the network: connections to each server, bytes a second."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mirror.http.throttle import PROCESS, Throttle
from mirror.remotes.http import HttpRemote
from tests.remotes.conftest import Opener
from tests.remotes.contract import read
from tests.support.hostile import Seen, Wire, good, hostile, redirect

BODY = bytes(100_000)


@pytest.fixture(autouse=True)
def _no_limit_is_left() -> Iterator[None]:
    yield
    PROCESS.follow(None)


async def whole(remote: HttpRemote, name: str) -> bytes:
    async with remote.open_part(name) as part:
        return await read(part)


async def test_each_server_has_its_own_limit_of_connections(opened: Opener) -> None:
    """One that is slow holds up nobody who is sent elsewhere, and none gets more than its share."""
    under_way, most = 0, 0
    lock, enough = threading.Lock(), threading.Event()

    def slow(seen: Seen, wire: Wire) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 2:
                enough.set()
        enough.wait(10)
        with lock:
            under_way -= 1
        good(b"slow")(seen, wire)

    with hostile({"/f": slow}) as one, hostile({"/g": good(b"other")}) as other, hostile({}) as _:
        redirecting = {"/f": slow, "/there": redirect(f"{other.url}g")}
        with hostile(redirecting) as origin:
            remote = opened(origin.url, connections=2)
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(whole, remote, "f")
            assert most == 2
            assert origin.connections == 2
            assert await whole(remote, "there") == b"other"
        assert one.connections == 0


async def test_bytes_come_at_the_rate_that_is_set(opened: Opener) -> None:
    """All bodies of the process together, whichever remote reads them; a wait for it is no stall."""
    PROCESS.follow("400K")
    with hostile({"/f": good(BODY)}) as server:
        one, two = opened(server.url, deadline=0.2), opened(server.url, deadline=0.2)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for remote in (one, two):
                nursery.start_soon(whole, remote, "f")
        took = trio.current_time() - began
    assert 200_000 / (400 * 1024) * 0.7 < took < 5


async def test_a_large_read_waits_its_turn_and_no_longer() -> None:
    """Whoever came first has paid first: small reads do not pass a large one."""
    throttle = Throttle()
    throttle.follow("100K")
    order: list[int] = []

    async def pay(size: int) -> None:
        await throttle.spent(size)
        order.append(size)

    async with trio.open_nursery() as nursery:
        for size in (10_000, 20_000, 1, 2, 3):
            nursery.start_soon(pay, size)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [10_000, 20_000, 1, 2, 3]
    assert throttle.most(1 << 20) == 100 * 1024 // 10


async def test_a_table_in_a_file_is_followed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that has become unreadable: then the last one counts on."""
    now = [0.0]
    monkeypatch.setattr("mirror.http.throttle.time.monotonic", lambda: now[0])
    table = tmp_path / "table"
    table.write_text("1M\n")
    throttle = Throttle()
    throttle.follow(f"@{table}")
    assert throttle.rate == 1 << 20
    for text, rate in (("00:00,2M", 2 << 20), ("off", None), ("nonsense", None), ("3M", 3 << 20)):
        table.write_text(text)
        os.utime(table, ns=(0, len(text) + int(now[0])))
        now[0] += 2
        assert throttle.rate == rate
    assert "nonsense" in caplog.text
    caplog.clear()


def test_without_a_limit_nothing_is_held_up() -> None:
    throttle = Throttle()
    assert throttle.most(1 << 20) == 1 << 20
    assert throttle.rate is None
    with pytest.raises(ValueError, match="cannot be read"):
        throttle.follow("@/no/such/file")


async def test_a_limit_that_ends_lets_everybody_go(autojump_clock: MockClock) -> None:
    throttle = Throttle()
    throttle.follow("1K")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.spent, 1 << 30)
        nursery.start_soon(throttle.spent, 1)
        await trio.testing.wait_all_tasks_blocked()
        throttle.follow(None)
