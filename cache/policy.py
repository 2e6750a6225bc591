"""Placeholder until the real one lands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum


class Queue(IntEnum):
    SMALL = 0
    MAIN = 1


@dataclass(frozen=True, slots=True)
class Resident:
    node: int
    occupied: int
    queue: Queue
    hits: int
    used: int


@dataclass(frozen=True, slots=True)
class Move:
    node: int
    queue: Queue
    hits: int


@dataclass(frozen=True, slots=True)
class Plan:
    victims: list[Resident] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)


def choose(
    small: Iterator[Resident],
    main: Iterator[Resident],
    *,
    need: int,
    small_bytes: int,
    main_bytes: int,
    budget: int,
    clock: int,
    available: Callable[[Resident], bool],
) -> Plan:
    plan = Plan()
    for queue in (small, main):
        for r in queue:
            if need <= 0:
                return plan
            if available(r):
                plan.victims.append(r)
                need -= r.occupied
    return plan


def place(
    *, ghost: int | None, occupied: int, main_bytes: int, budget: int, clock: int, next_main_used: int | None
) -> Queue:
    return Queue.MAIN if main_bytes + occupied <= budget * 9 // 10 else Queue.SMALL


def forget_ghosts_before(clock: int, budget: int) -> int:
    return clock - 4 * budget
