"""The life of a fill, and those who wait for it."""

from __future__ import annotations

from enum import Enum, auto

import trio

from cache import Extents
from mirror.errors import VersionChanged
from mirror.fetch.plan import Range
from mirror.fetch.slots import Priority, Slots


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


class _Waiter:
    __slots__ = ("priority", "range", "woken")

    def __init__(self, wanted: Range | None, priority: Priority) -> None:
        self.range = wanted
        self.priority = priority
        self.woken = trio.Event()


class Waiters:
    """Those who wait for ranges of a fill, or for all of it, and how urgent that makes it."""

    def __init__(self, priority: Priority, slots: Slots) -> None:
        self.begun_for = priority
        """The most urgent reason to fetch it without waiting for it."""
        self.priority = priority
        """The most urgent reason of all; kept here, for it is looked at whenever a slot becomes free."""
        self._slots = slots
        self._waiting: list[_Waiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def demands(self) -> list[Range]:
        """The ranges that are waited for."""
        return [waiter.range for waiter in self._waiting if waiter.range is not None]

    def begins(self, wanted: Range | None, priority: Priority) -> _Waiter:
        """Somebody will wait for a range, or with None for all of it."""
        waiter = _Waiter(wanted, priority)
        self._waiting.append(waiter)
        self._reconsider()
        return waiter

    def ends(self, waiter: _Waiter) -> None:
        """Somebody waits no more."""
        self._waiting.remove(waiter)
        self._reconsider()

    def raise_priority(self, priority: Priority) -> None:
        """Somebody more urgent wants it, without waiting for it."""
        if priority < self.begun_for:
            self.begun_for = priority
            self._reconsider()

    def wake(self, present: Extents, *, ended: bool) -> None:
        """Let those go on whose bytes are there, or all of them."""
        for waiter in self._waiting:
            if ended or (waiter.range is not None and present.covers(*waiter.range)):
                waiter.woken.set()

    def _reconsider(self) -> None:
        priority = min((waiter.priority for waiter in self._waiting), default=self.begun_for)
        if priority is not self.priority:
            self.priority = priority
            self._slots.reconsider()
