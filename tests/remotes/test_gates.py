"""A server that asks for patience is asked again by one request, not by all that wait."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mirror.errors import Transient
from mirror.http.connection import Origin
from mirror.http.gates import LONGEST, MOST, SERVERS, Gate, Gates
from tests.remotes.conftest import Opener
from tests.support.hostile import Seen, Wire, good, hostile, status


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_an_open_gate_is_no_gate(gate: Gate, autojump_clock: object) -> None:
    assert autojump_clock
    for _ in range(3):
        assert not await gate.enter("x")
    assert gate.open


async def test_everybody_is_told_when_to_come_again(gate: Gate, autojump_clock: object) -> None:
    assert autojump_clock
    gate.refused(503, "7", first=False)
    await trio.sleep(3)
    with pytest.raises(Transient, match="asks everybody to wait") as caught:
        await gate.enter("x")
    assert caught.value.retry_after == pytest.approx(4)


async def test_one_goes_first_and_the_others_by_its_answer(gate: Gate, autojump_clock: object) -> None:
    """After a refusal all are told; without an answer the next one goes; after any other all go."""
    assert autojump_clock
    went: list[int] = []

    async def one(number: int) -> None:
        await gate.enter("x")
        went.append(number)

    for end in (gate.left, gate.passed):
        gate.refused(429, "1", first=False)
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(went) == 1
            end()
            await trio.testing.wait_all_tasks_blocked()
            assert len(went) == (2 if end == gate.left else 10)
            gate.passed()
        went.clear()

    gate.refused(429, "1", first=False)
    await trio.sleep(1)
    refused: list[float | None] = []

    async def told() -> None:
        with pytest.raises(Transient) as caught:
            await gate.enter("x")
        refused.append(caught.value.retry_after)

    await gate.enter("x")
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(told)
        await trio.testing.wait_all_tasks_blocked()
        gate.refused(429, "5", first=True)
    assert refused == [5.0] * 10


async def test_pauses_double_where_the_server_names_none(gate: Gate, autojump_clock: object) -> None:
    """Up to a limit, and begin anew after an answer that is no refusal."""
    assert autojump_clock
    pauses = []
    first = False
    for _ in range(9):
        gate.refused(503, None, first=first)
        with pytest.raises(Transient) as caught:
            await gate.enter("x")
        assert caught.value.retry_after is not None
        pauses.append(caught.value.retry_after)
        await trio.sleep(pauses[-1])
        first = await gate.enter("x")
        assert first
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST, LONGEST])
    gate.passed()
    gate.refused(503, "no number", first=False)
    with pytest.raises(Transient) as caught:
        await gate.enter("x")
    assert caught.value.retry_after == pytest.approx(0.1)


async def test_answers_to_what_was_asked_before_do_not_count_twice(
    gate: Gate, autojump_clock: object
) -> None:
    """Sixteen connections are refused at one moment: that is one refusal."""
    assert autojump_clock
    for _ in range(16):
        gate.refused(503, None, first=False)
    with pytest.raises(Transient) as caught:
        await gate.enter("x")
    assert caught.value.retry_after == pytest.approx(0.1)


async def test_what_was_asked_before_it_closed_has_no_say_while_one_goes_first(
    gate: Gate, autojump_clock: object
) -> None:
    """Neither does it close the gate for longer, nor send a second one ahead."""
    assert autojump_clock
    gate.refused(503, "2", first=False)
    await trio.sleep(2)
    assert await gate.enter("x")
    gate.refused(503, "100", first=False)
    with trio.move_on_after(1) as waiting:
        await gate.enter("x")
    assert waiting.cancelled_caught, "the others wait for the one that went first"
    gate.passed()
    assert not await gate.enter("x")


async def test_nobody_is_shut_out_for_a_day(gate: Gate, autojump_clock: object) -> None:
    assert autojump_clock
    gate.refused(429, "86400", first=False)
    with pytest.raises(Transient) as caught:
        await gate.enter("x")
    assert caught.value.retry_after == MOST


async def test_each_server_has_its_own() -> None:
    """However many there are, those that are shut are remembered."""
    gates = Gates()
    shut = Origin("https", "shut.example", 443)
    gates.of(shut).refused(503, "60", first=False)
    for number in range(2 * SERVERS):
        assert gates.of(Origin("https", f"{number}.example", 443)).open
    assert not gates.of(shut).open


async def test_no_herd_comes_back(opened: Opener) -> None:
    """Of sixteen that are refused, and come again when they were told to, one request reaches the server."""
    sick = True

    def once_well(seen: Seen, wire: Wire) -> None:
        (status(503, headers={"Retry-After": "1"}) if sick else good(b"x"))(seen, wire)

    with hostile({"/f": once_well}) as server:
        remote = opened(server.url)

        async def one() -> None:
            while True:
                try:
                    await remote.stat("f")
                except Transient as exc:
                    await trio.sleep(exc.retry_after or 0.0)
                else:
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(one)
            await trio.sleep(0.5)
            first = len(server.seen)
            await trio.sleep(1.1)
            assert len(server.seen) == first + 1  # refused again
            sick = False
        assert len(server.seen) == first + 1 + 16
