"""Which objects leave a full cache, and where a new one begins: values in, values out.

The policy is 2Q (Johnson and Shasha, VLDB 1994) with a reluctant form of the admission test of LIRS (Jiang
and Zhang, SIGMETRICS 2002). There are two queues. MAIN holds most of the bytes, in order of last use. SMALL
is a passage, in order of arrival: what is read once goes through it and leaves MAIN alone, however much.

An object begins in MAIN while MAIN has room, or when a user asked for it to be there; else in SMALL, unless
it *returns*: it was here before, and the time since its last use is `RELUCTANCE` times shorter than the time
for which MAIN's next victim has been idle. No open of what is here moves it to the other queue.

Returning needs a memory of what has left: a *ghost* is a node and the time of its last use. Time is a logical
clock, the bytes of all objects opened so far (an object counts as a whole, whether it was here or not). So
times can be compared with the size of the cache, and an idle night changes nothing.

Why reluctant: of a data set that is larger than the cache and read in epochs, each object is as good as the
others, and every exchange is a loss. The best that can be done is to keep some of them and to stay with
those. Why not more so: what nobody reads any more grows older without end, so whatever is read instead of it
takes its place, at the latest when `MEMORY` * `RELUCTANCE` times the budget was opened.

docs/eviction.md shows what comes of it on recorded traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

MAIN_SHARE = 0.9
"""The part of the budget that MAIN may fill; what is left is the passage."""
RELUCTANCE = 4
"""How many times longer than a newcomer's absence MAIN's next victim must have been idle."""
MEMORY = 4
"""For how many budgets' worth of opened bytes a ghost is kept; who has none counts as away for so long."""


class Queue(IntEnum):
    """Where an object stands. The values are stored."""

    SMALL = 0
    """The passage, in order of arrival."""
    MAIN = 1
    """What is kept, in order of last use."""


@dataclass(frozen=True, slots=True)
class Resident:
    """An object that takes up space."""

    node: int
    occupied: int
    """Bytes that its eviction frees, at least 0."""
    queue: Queue
    used: int
    """The clock at its last open; before the first, at its arrival."""


def choose(
    small: Iterator[Resident],
    main: Iterator[Resident],
    *,
    need: int,
    main_bytes: int,
    budget: int,
    available: Callable[[Resident], bool],
) -> list[Resident]:
    """Choose what to evict, in this order.

    MAIN gives while it holds more than its share, and when SMALL has nothing to give; else SMALL does.

    Args:
        small: the residents of SMALL, first come first.
        main: the residents of MAIN, least recently used first.
        need: bytes to free. The victims free as much, or all that can be freed.
        main_bytes: bytes of all objects in MAIN, and of the one to come if it was placed there.
        budget: bytes that all objects together may take up.
        available: False for what must stay: open, pinned, being filled. It is passed over, and keeps its
            place.

    Every resident that is looked at is a victim or not available, so the work is in proportion to these. A
    queue is walked to its end only when it has nothing more to give.
    """
    victims: list[Resident] = []
    from_small, from_main = filter(available, small), filter(available, main)
    while need > 0:
        if main_bytes > MAIN_SHARE * budget:
            victim = next(from_main, None) or next(from_small, None)
        else:
            victim = next(from_small, None) or next(from_main, None)
        if victim is None:
            break
        victims.append(victim)
        need -= victim.occupied
        if victim.queue is Queue.MAIN:
            main_bytes -= victim.occupied
    return victims


def place(
    *,
    ghost: int | None,
    occupied: int,
    main_bytes: int,
    budget: int,
    clock: int,
    next_main_used: int | None,
    wanted: bool = False,
) -> Queue:
    """The queue in which an object begins that is about to be fetched.

    Args:
        ghost: the clock at its last use when it was here before, if that is remembered.
        occupied: bytes that it will take up.
        main_bytes: bytes of all objects in MAIN, before anything is evicted for this one.
        budget: bytes that all objects together may take up.
        clock: the clock now.
        next_main_used: `Resident.used` of the first *available* resident of MAIN, None if there is none. Not
            of one that must stay: a pin would look idle for ever, and let everybody in.
        wanted: a user asked for it to be here before it is opened (warming).
    """
    if wanted or main_bytes + occupied <= MAIN_SHARE * budget:
        return Queue.MAIN
    if next_main_used is None:
        return Queue.SMALL
    away = MEMORY * budget if ghost is None else min(clock - ghost, MEMORY * budget)
    return Queue.MAIN if RELUCTANCE * away < clock - next_main_used else Queue.SMALL


def forget_ghosts_before(clock: int, budget: int) -> int:
    """Ghosts whose clock is below this may be deleted: they say no more than having none does."""
    return clock - MEMORY * budget
