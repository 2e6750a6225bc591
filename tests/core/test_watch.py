"""The kernel keeps names for long and is told when they change."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
import trio.testing

from mirror.errors import MirrorError, OriginFailed
from mirror.worker.watch import IDLE_TTLS, KEPT, Watch

TTL = 60.0


@dataclass
class FakeNamespace:
    """Folders that are as fresh as their last listing, on trio's clock."""

    listed_at: dict[int, float] = field(default_factory=dict)
    listings: list[int] = field(default_factory=list)
    fault: MirrorError | None = None
    slow: dict[int, float] = field(default_factory=dict)

    def is_fresh(self, folder: int) -> bool:
        return trio.current_time() - self.listed_at.get(folder, -1e9) <= TTL

    async def listed(self, folder: int) -> None:
        await trio.lowlevel.checkpoint()
        self.listings.append(folder)
        await trio.sleep(self.slow.get(folder, 0.0))
        if self.fault is not None:
            raise self.fault
        self.listed_at[folder] = trio.current_time()


async def run_for(watch: Watch, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await watch.run()


async def test_a_folder_in_use_is_listed_once_a_ttl(autojump_clock: trio.testing.MockClock) -> None:
    namespace = FakeNamespace()
    taken_back: list[int] = []
    watch = Watch(namespace, TTL, taken_back.append)
    watch.used(5)
    namespace.listed_at[5] = trio.current_time()
    await run_for(watch, 5 * TTL)
    assert len(namespace.listings) in (4, 5)
    assert not taken_back


async def test_an_unused_folder_lapses_and_is_taken_back(autojump_clock: trio.testing.MockClock) -> None:
    namespace = FakeNamespace()
    taken_back: list[int] = []
    watch = Watch(namespace, TTL, taken_back.append)
    watch.used(5)
    await run_for(watch, 3 * IDLE_TTLS * TTL)
    assert taken_back == [5]
    assert len(namespace.listings) <= IDLE_TTLS + 1


async def test_too_many_folders_lapse_oldest_first(autojump_clock: trio.testing.MockClock) -> None:
    namespace = FakeNamespace()
    taken_back: list[int] = []
    watch = Watch(namespace, TTL, taken_back.append)
    for folder in range(KEPT + 10):
        watch.used(folder)
    await run_for(watch, 2.0)
    assert taken_back == list(range(10))
    assert len(set(namespace.listings)) == KEPT


async def test_a_folder_that_takes_long_holds_up_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """One of a million names takes a minute; it is not asked for twice meanwhile."""
    namespace = FakeNamespace(slow={5: 300.0})
    watch = Watch(namespace, TTL, lambda _: None)
    watch.used(5)
    watch.used(6)
    await run_for(watch, 200.0)
    assert namespace.listings.count(5) == 1
    assert namespace.listings.count(6) >= 3


async def test_a_folder_that_cannot_be_listed_is_taken_back(autojump_clock: trio.testing.MockClock) -> None:
    namespace = FakeNamespace(fault=OriginFailed("gone"))
    taken_back: list[int] = []
    watch = Watch(namespace, TTL, taken_back.append)
    watch.used(5)
    await run_for(watch, 5.0)
    assert taken_back == [5]


async def test_an_endless_ttl_needs_no_watch() -> None:
    watch = Watch(FakeNamespace(), float("inf"), lambda _: None)
    with trio.fail_after(1):
        await watch.run()
