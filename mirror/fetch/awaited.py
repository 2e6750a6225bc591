"""A fill as its readers see it: what is there of it, and how they wait for the rest."""

from __future__ import annotations

import trio

from cache import Extents
from mirror.config import FetchMode
from mirror.errors import MirrorError
from mirror.fetch.appetite import Appetite
from mirror.fetch.life import ENDED, FillState, Waiters
from mirror.fetch.plan import Range
from mirror.fetch.slots import Priority, Slots


class Awaited:
    """Something that becomes complete, or fails for all who wait."""

    def __init__(self, priority: Priority, slots: Slots, mode: FetchMode) -> None:
        self.state = FillState.WAITING
        self.error: MirrorError | None = None
        self.served = False
        """Readers were told that bytes are there before all were."""
        self.urgency = Waiters(priority, slots)
        """Who wants it, and how much."""
        self._present = Extents()
        self._appetite = Appetite(mode)
        self._cursor = 0
        self._kick = trio.Event()  # something the planner should look at happened

    @property
    def priority(self) -> Priority:
        """The most urgent reason for this fill."""
        return self.urgency.priority

    def raise_priority(self, priority: Priority) -> None:
        """Somebody more urgent wants it, without waiting here."""
        if priority is not Priority.DEMAND:
            self.want_all()
        self.urgency.raise_priority(priority)

    def want_all(self) -> None:
        """Somebody wants the whole file."""
        if not self._appetite.whole:
            self._appetite.whole = True
            self._kick.set()

    @property
    def wants_all(self) -> bool:
        """Whether the whole file is fetched, whatever is read of it."""
        return self._appetite.whole

    @property
    def unread(self) -> bool:
        """Whether all of it is to come, and nobody has had a byte yet: who wants it waits for the end."""
        return self._appetite.whole and not self.served

    @property
    def shares(self) -> bool:
        """Whether another process fills the object, and may not fetch what is read here."""
        return self.state is FillState.FOLLOWING and not self._appetite.whole

    async def wait(self, start: int, stop: int) -> None:
        """Wait until the bytes ``start`` to ``stop`` are present.

        Raises:
            MirrorError: the fill failed, for all who wait.
        """
        self._cursor = stop
        self._appetite.read(start, stop)
        # Once more when it was begun anew between this reader's being woken and its turn.
        while self.state is not FillState.COMPLETE and not self._present.covers(start, stop):
            await self._wait((start, stop), Priority.DEMAND)
        self.served = True

    def look_again(self) -> None:
        """What another process had filled is gone: believe nothing of it before the next look."""
        if self.state is FillState.FOLLOWING:
            self._present = Extents()

    async def whole(self, priority: Priority) -> None:
        """Wait until the object is complete. Raises as `wait` does."""
        self.want_all()
        await self._wait(None, priority)

    async def _wait(self, wanted: Range | None, priority: Priority) -> None:
        if self.state is FillState.COMPLETE:
            return
        if self.error is None:
            waiter = self.urgency.begins(wanted, priority)
            self._kick.set()
            try:
                await waiter.woken.wait()
            finally:
                self.urgency.ends(waiter)
        if self.error is not None:
            raise self.error

    def _wake(self) -> None:
        self.urgency.wake(self._present, ended=self.state in ENDED)

    def _enter(self, state: FillState) -> None:
        self.state = state
        self._wake()
