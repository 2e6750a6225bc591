"""One answer that readers follow, by a clock that the test moves."""

from __future__ import annotations

import trio
import trio.testing

from mirror.fetch.slots import Fixed, Priority, Slots
from mirror.fetch.stream import IDLE, File, Stream
from mirror.retry import Schedule
from tests.support.data import KiB, MiB, noise
from tests.support.fake_remote import MTIME, FakeRemote, Source
from tests.support.nodes import file_node

DATA = noise("stream", 8 * MiB)
SCHEDULE = Schedule(first=0.1, longest=1.0, tries=3, deadline=30.0)
NODE = file_node(2, folder=1, name="a", size=len(DATA), mtime_ns=MTIME)


def stream(remote: FakeRemote, slots: Slots | None = None) -> Stream:
    file = File(NODE, "a")
    made = Stream(file, 0, remote=remote, slots=slots or Slots(4, 0), schedule=SCHEDULE, changed=lambda: None)
    file.streams.append(made)
    return made


async def test_a_connection_that_breaks_after_a_long_pause_of_its_reader_is_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Servers close what nobody reads from: the time that a slow reader took is none that the origin lost."""
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB, break_at=3 * MiB)
    async with trio.open_nursery() as nursery:
        followed = stream(remote)
        nursery.start_soon(followed.run)
        for at in range(0, 5 * MiB, 128 * KiB):
            assert await followed.read(at, at + 128 * KiB) == DATA[at : at + 128 * KiB]
            await trio.sleep(0.9 * IDLE)
        assert trio.current_time() > SCHEDULE.deadline
        assert len(remote.seen) == 2
        nursery.cancel_scope.cancel()


async def test_the_time_until_a_request_may_be_made_is_none_that_the_origin_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    remote = FakeRemote({"a": Source(DATA)}, chunk=MiB, break_at=0)
    slots = Slots(1, 0)
    async with trio.open_nursery() as nursery:

        async def others() -> None:
            async with slots.hold(Fixed(Priority.DEMAND)):
                await trio.sleep(2 * SCHEDULE.deadline)

        nursery.start_soon(others)
        await trio.testing.wait_all_tasks_blocked()
        followed = stream(remote, slots)
        nursery.start_soon(followed.run)
        assert await followed.read(0, MiB) == DATA[:MiB]
        nursery.cancel_scope.cancel()
