"""One answer for all who ask at once."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mirror.errors import OriginFailed
from mirror.flight import SingleFlight


async def test_many_askers_share_one_answer() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    asked = 0
    gate = trio.Event()
    answers: list[int] = []

    async def operation() -> int:
        nonlocal asked
        asked += 1
        await gate.wait()
        return 42

    async def ask() -> None:
        answers.append(await flights.run("key", operation))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        gate.set()
    assert asked == 1
    assert answers == [42] * 50
    assert "key" not in flights


async def test_an_error_is_everybodys() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    asked = 0
    gate = trio.Event()

    async def operation() -> int:
        nonlocal asked
        asked += 1
        await gate.wait()
        raise OriginFailed("refused")

    async def ask() -> None:
        with pytest.raises(OriginFailed, match="refused"):
            await flights.run("key", operation)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        gate.set()
    assert asked == 1


async def test_when_the_one_who_asks_is_cancelled_the_next_takes_over() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    asked = 0
    gate = trio.Event()
    answers: list[int] = []

    async def operation() -> int:
        nonlocal asked
        asked += 1
        await gate.wait()
        return asked

    async def ask() -> None:
        answers.append(await flights.run("key", operation))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(ask)
            await wait_all_tasks_blocked()
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        gate.set()
    assert answers == [2]
