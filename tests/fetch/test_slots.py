"""Who may send a request next."""

import trio
from trio.testing import wait_all_tasks_blocked

from mirror.fetch.slots import Fixed, Held, Priority, Slots


async def holder(slots: Slots, priority: Priority, log: list[Priority], release: trio.Event) -> None:
    async with slots.hold(Fixed(priority)):
        log.append(priority)
        await release.wait()


async def test_a_blocked_reader_goes_before_read_ahead_and_warming() -> None:
    slots = Slots(total=1, reserved=0)
    log: list[Priority] = []
    first, rest = trio.Event(), trio.Event()
    rest.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holder, slots, Priority.WARM, log, first)
        await wait_all_tasks_blocked()
        for priority in (Priority.WARM, Priority.AHEAD, Priority.DEMAND):
            nursery.start_soon(holder, slots, priority, log, rest)
            await wait_all_tasks_blocked()
        first.set()
    assert log == [Priority.WARM, Priority.DEMAND, Priority.AHEAD, Priority.WARM]


async def test_who_stands_in_line_keeps_the_place_until_its_task_begins() -> None:
    slots = Slots(total=1, reserved=0)
    log: list[int] = []

    async def one(number: int, slot: Held) -> None:
        async with slot:
            log.append(number)

    for _ in range(20):  # tasks that are started together begin in any order
        log.clear()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number, slots.hold(Fixed(Priority.WARM)).queue())
        assert log == [0, 1, 2, 3]
    assert slots.held == 0


async def test_some_slots_are_kept_for_blocked_readers() -> None:
    slots = Slots(total=2, reserved=1)
    log: list[Priority] = []
    release = trio.Event()
    async with trio.open_nursery() as nursery:
        for priority in (Priority.WARM, Priority.WARM, Priority.DEMAND):
            nursery.start_soon(holder, slots, priority, log, release)
            await wait_all_tasks_blocked()
        assert log == [Priority.WARM, Priority.DEMAND]
        release.set()
    assert log[-1] is Priority.WARM


async def test_a_raised_priority_moves_a_waiting_request_to_the_front() -> None:
    slots = Slots(total=2, reserved=1)
    wish = Fixed(Priority.WARM)
    held = trio.Event()

    async def changing() -> None:
        async with slots.hold(wish):
            held.set()

    async with trio.open_nursery() as nursery:
        release = trio.Event()
        nursery.start_soon(holder, slots, Priority.WARM, [], release)
        await wait_all_tasks_blocked()
        nursery.start_soon(changing)
        await wait_all_tasks_blocked()
        assert not held.is_set()
        wish.priority = Priority.DEMAND
        slots.reconsider()
        await held.wait()
        release.set()


async def test_a_cancelled_wait_leaves_the_slots_whole() -> None:
    slots = Slots(total=1, reserved=0)
    release = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holder, slots, Priority.DEMAND, [], release)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(holder, slots, Priority.DEMAND, [], release)
            await wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        release.set()
    with trio.fail_after(1):
        async with slots.hold(Fixed(Priority.DEMAND)):
            pass
