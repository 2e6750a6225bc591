"""When a failed request is tried again."""

import pytest
import trio
import trio.testing

from mirror.errors import AccessDenied, OriginFailed, Stalled, Transient
from mirror.retry import Schedule, progressed, retrying

SCHEDULE = Schedule(first=0.1, longest=1.0, tries=4, deadline=30.0)


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [SCHEDULE.pause(n, None, 0.0, luck=1.0) for n in (1, 2, 3)]
    assert pauses == [0.1, 0.2, 0.4]
    assert Schedule(first=1, longest=3, tries=9).pause(5, None, 0.0, luck=1.0) == 3


def test_luck_spreads_the_pauses() -> None:
    assert SCHEDULE.pause(2, None, 0.0, luck=0.5) == 0.1


def test_the_last_try_is_the_last() -> None:
    assert SCHEDULE.pause(4, None, 0.0, luck=0.0) is None


def test_what_the_origin_asks_for_is_waited_for() -> None:
    pause = SCHEDULE.pause(1, 7.0, 0.0, luck=0.5)
    assert pause is not None
    assert 7.0 <= pause <= 7.1


def test_a_wish_beyond_the_deadline_ends_the_tries() -> None:
    assert SCHEDULE.pause(1, 3600.0, 0.0, luck=0.0) is None


async def test_a_transient_failure_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    outcomes: list[Exception | str] = [Transient("reset"), Transient("503", retry_after=2.0), "there"]

    async def operation() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    before = trio.current_time()
    assert await retrying(SCHEDULE, operation, "it") == "there"
    assert 2.0 <= trio.current_time() - before < 3.0


async def test_failures_without_end_become_one_error(autojump_clock: trio.testing.MockClock) -> None:
    tries = 0

    async def operation() -> None:
        nonlocal tries
        tries += 1
        raise Transient("connection refused")

    with pytest.raises(OriginFailed, match="connection refused") as caught:
        await retrying(SCHEDULE, operation, "it")
    assert not isinstance(caught.value, Transient)
    assert tries == SCHEDULE.tries


async def test_a_final_failure_is_not_tried_again() -> None:
    tries = 0

    async def operation() -> None:
        nonlocal tries
        tries += 1
        raise AccessDenied("403")

    with pytest.raises(AccessDenied):
        await retrying(SCHEDULE, operation, "it")
    assert tries == 1


async def test_silence_ends_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.current_time()
    with pytest.raises(Stalled, match="it: no answer within"):
        await retrying(SCHEDULE, trio.sleep_forever, "it")
    assert trio.current_time() - before == pytest.approx(SCHEDULE.deadline)


@pytest.mark.parametrize(("seconds", "expected"), [(12.0, OriginFailed), (20.0, Stalled)])
async def test_what_took_the_time_is_what_is_told_at_the_deadline(
    seconds: float, expected: type[Exception], autojump_clock: trio.testing.MockClock
) -> None:
    """The reason is known where one try was refused late; where one has hung, that is the reason."""

    async def work() -> None:
        if trio.current_time() - before < 1.0:
            await trio.sleep(30.0 - seconds)
            raise Transient("refused")
        await trio.sleep_forever()

    before = trio.current_time()
    with pytest.raises(expected):
        await retrying(SCHEDULE, work, "it")
    assert trio.current_time() - before == pytest.approx(SCHEDULE.deadline)


async def test_work_that_gets_somewhere_may_take_longer_than_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Reading a list of a million files is one operation; its deadline begins anew at each step."""

    async def work() -> str:
        for _ in range(10):
            await trio.sleep(0.8)
            progressed()
        return "done"

    assert await retrying(Schedule(deadline=1.0), work, "x") == "done"
    with pytest.raises(Stalled):
        await retrying(Schedule(deadline=1.0, extends=False), work, "x")
