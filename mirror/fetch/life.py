"""The life of a fill, and those who wait for it."""

from __future__ import annotations

from enum import Enum, auto

import trio

from mirror.errors import VersionChanged
from mirror.fetch.plan import Range
from mirror.fetch.slots import Priority


class FillState(Enum):
    """Life of a fill; only `Fill._enter` moves it."""

    WAITING = auto()
    """Created; nothing is known about the lease yet."""
    FOLLOWING = auto()
    """Another process fills the object, or may."""
    FILLING = auto()
    """The lease is ours."""
    COMPLETE = auto()
    """Every byte is there and the object has its final name."""
    LAPSED = auto()
    """Nobody wants more of it; what is there is kept."""
    FAILED = auto()
    """Given up; `error` says why. What was fetched is kept unless the version is gone."""


ENDED = (FillState.COMPLETE, FillState.LAPSED, FillState.FAILED)


class LapsedError(Exception):
    """Nobody wants more."""


class TurnError(Exception):
    """It is others' turn to have the file."""


class NotContinued(VersionChanged):
    """Nothing tells whether an answer continues the bytes that are here."""


class Waiter:
    """Somebody who needs a range, or with None the whole file."""

    __slots__ = ("priority", "range", "woken")

    def __init__(self, wanted: Range | None, priority: Priority) -> None:
        self.range = wanted
        self.priority = priority
        self.woken = trio.Event()
