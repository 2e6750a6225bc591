"""A host that has too much to do is not asked by everybody at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing

from mirror.errors import Transient
from mirror.http.connection import Origin
from mirror.http.exchange import Client
from mirror.http.places import Place

HOST = Origin("http", "busy.invalid", 80)
WHERE = Place(httpx.URL("http://busy.invalid/"))


class Busy:
    """Refuses until a moment, takes a second for each answer, and notes what came."""

    def __init__(self, until: float, retry_after: str | None) -> None:
        self.until, self.retry_after = trio.current_time() + until, retry_after
        self.began = trio.current_time()
        self.came: list[tuple[float, int]] = []
        """When, and how many were under way then."""
        self.under_way = 0

    async def ask(self) -> httpx.Response:
        self.under_way += 1
        self.came.append((trio.current_time() - self.began, self.under_way))
        try:
            await trio.sleep(1.0)
        finally:
            self.under_way -= 1
        if trio.current_time() < self.until:
            return httpx.Response(429, headers={"Retry-After": self.retry_after} if self.retry_after else {})
        return httpx.Response(200)


@asynccontextmanager
async def asking(deadline: float) -> AsyncIterator[Client]:
    client = Client(deadline=deadline, connections=64)
    try:
        yield client
    finally:
        await client.aclose()


async def herd(client: Client, host: Busy, count: int) -> None:
    """So many requests at once, each as often as it takes."""

    async def one() -> None:
        while (await client.gated(HOST, WHERE, host.ask)).status_code != 200:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)


async def test_a_herd_waits_for_retry_after_and_sends_a_probe_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After it two at once, then four: the host is never hit by all of them again."""
    async with asking(30.0) as client:
        host = Busy(1.5, "10")
        await herd(client, host, 50)
        late = [(round(when), at_once) for when, at_once in host.came if when > 1.0]
        assert len(host.came) == 100
        assert late[0] == (11, 1), "nothing was sent before Retry-After allowed it"
        assert [sum(when == at for when, _ in late) for at in (11, 12, 13)] == [1, 2, 4]
        assert not client._gates, "all is forgotten when the host has recovered"
    assert autojump_clock.autojump_threshold == 0.0


async def test_without_retry_after_a_probe_comes_soon(autojump_clock: trio.testing.MockClock) -> None:
    """The pauses double; each ends with one request, not with all."""
    async with asking(60.0) as client:
        host = Busy(6.0, None)
        await herd(client, host, 20)
        probes = [at_once for when, at_once in host.came if 1.0 < when < 6.0]
        assert 2 <= len(probes) <= 5
        assert set(probes) == {1}
    assert autojump_clock.autojump_threshold == 0.0


async def test_who_cannot_wait_that_long_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A request fails without being sent, with the seconds that are left; it is sent after two minutes."""
    async with asking(5.0) as client:
        host = Busy(1.5, "3600")
        await client.gated(HOST, WHERE, host.ask)
        with pytest.raises(Transient) as caught:
            await client.gated(HOST, WHERE, host.ask)
        assert caught.value.retry_after == pytest.approx(120.0)
        assert len(host.came) == 1
        await trio.sleep(120.0)
        assert (await client.gated(HOST, WHERE, host.ask)).status_code == 200
    assert autojump_clock.autojump_threshold == 0.0
