"""Small files, many at once.

For a small file all that has to be decided takes less time than a task of its own would cost, and what the
file system does for it less than the way to a thread. So three tasks do this for all of them: one takes
leases, one asks and looks at answers, one writes and names. Each does in one go what has gathered for it
while it was at work: under load that is many files, and without any it is one, at once.

Only what is plain is done here: a lease that is free, an answer that is all there, room for its bytes. With
all else the file's fill goes on by itself, from where it is. So nothing that goes wrong with one ends the
others, and whatever it is, there is one place that says so.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import trio

from cache import CacheFull, Filler, Objects
from cache.file_thread import all_done
from mirror.fetch.fill import Fill
from mirror.fetch.pace import Pace
from mirror.fetch.slots import Priority, Slots, Waiting
from mirror.remotes.base import Asked, Bulk

log = logging.getLogger(__name__)

TICK = 0.1
"""Seconds between looks at answers that are waited for no longer."""
GROUP = 16
"""Most leases taken in one go."""
AT_ONCE = 8
"""Answers that are looked at before others of the event loop have their turn: about a millisecond."""
NEAR = 8
"""Files of a lane that are leased before it is their turn: leases wait for what is written before them."""


class Lane:
    """Files of which one is asked for at a time."""

    __slots__ = ("busy", "leased", "near", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Fill] = deque()
        self.leased: deque[Fill] = deque()
        """Their leases were taken, or could not be."""
        self.near = 0
        """How many are on their way from `waiting` to their turn."""
        self.busy = False
        """It is the turn of one, until its answer is here or it has ended."""


class _Signal:
    """Wakes one task."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Return once it was set after the last return."""
        await self._event.wait()
        self._event = trio.Event()


class SmallFiles:
    """The small files of one fetcher. `run` belongs to its nursery."""

    def __init__(
        self,
        objects: Objects,
        remote: Bulk,
        slots: Slots,
        pace: Pace,
        deadline: float,
        wanted: bool,
        go_on: Callable[[Fill, Asked | None, Exception | None], None],
        ended: Callable[[Fill], None],
    ) -> None:
        """Prepare.

        Args:
            objects: where they go.
            remote: where they come from.
            slots: requests at once.
            pace: learns how fast answers come.
            deadline: seconds that an answer is waited for.
            wanted: whether those that become complete are opened for somebody.
            go_on: called with a fill that has to run by itself, with its slot if it has one, with what was
                asked for it, and with what went wrong with what came. It ends with `left`.
            ended: called with a fill that has ended.
        """
        self._objects = objects
        self._remote = remote
        self._slots = slots
        self._pace = pace
        self._deadline = deadline
        self._wanted = wanted
        self._go_on = go_on
        self._ended = ended
        self._here: dict[Fill, Lane] = {}
        """All that are at some place here."""
        self._gone_on: dict[Fill, Lane] = {}
        """Those that run by themselves."""
        self._fresh: list[Fill] = []
        """Their leases are to be taken."""
        self._turns: list[Fill] = []
        """It is their turn."""
        self._under_way: dict[Asked, tuple[Fill, float]] = {}
        """And when they were asked for."""
        self._came: list[Asked] = []
        self._bodies: list[tuple[Fill, memoryview]] = []
        self._waiting: dict[Fill, Waiting] = {}
        """Those of them that wait for a slot."""
        self._to_lease = _Signal()
        self._to_ask = _Signal()
        self._to_store = _Signal()
        self._any_under_way = _Signal()

    def add(self, fill: Fill, lane: Lane) -> None:
        """Fetch a file, after those of its lane that were added before."""
        self._here[fill] = lane
        lane.waiting.append(fill)
        self._advance(lane)

    def hurry(self, fill: Fill) -> None:
        """Somebody waits for a file: it need not wait for those before it."""
        lane = self._here.get(fill)
        if lane is None:
            return
        own = Lane()
        if fill in lane.waiting:
            lane.waiting.remove(fill)
            self.add(fill, own)
        elif fill in self._fresh or fill in lane.leased:
            lane.near -= 1
            own.near = 1
            self._here[fill] = own
            self._advance(lane)
            if fill in lane.leased:
                lane.leased.remove(fill)
                own.leased.append(fill)
                self._has_turn(own)

    def left(self, fill: Fill) -> None:
        """A fill that had to run by itself has ended."""
        lane = self._gone_on.pop(fill, None)
        if lane is not None:
            self._next_of(lane)

    async def run(self) -> None:
        """Fetch what is added, until cancelled: then what is left is given back as it is."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._lease_all)
                nursery.start_soon(self._ask_all)
                nursery.start_soon(self._store_all)
                nursery.start_soon(self._end_patience)
        finally:
            with trio.CancelScope(shield=True):
                await self._let_go()

    def _advance(self, lane: Lane) -> None:
        while lane.waiting and lane.near < NEAR:
            lane.near += 1
            self._fresh.append(lane.waiting.popleft())
            self._to_lease.set()

    def _has_turn(self, lane: Lane) -> None:
        """Let the first of a lane have its turn, unless another one has it."""
        if lane.leased and not lane.busy:
            lane.busy = True
            lane.near -= 1
            self._turns.append(lane.leased.popleft())
            self._to_ask.set()
            self._advance(lane)

    def _next_of(self, lane: Lane) -> None:
        """Its turn is over."""
        lane.busy = False
        self._has_turn(lane)

    def _leaves_its_lane(self, fill: Fill) -> None:
        """The next one need not wait for the end of this one."""
        self._next_of(self._here[fill])
        self._here[fill] = Lane()

    # -- leases ------------------------------------------------------------------------------

    async def _lease_all(self) -> None:
        while True:
            await self._to_lease.wait()
            while self._fresh:
                self._fresh.sort(key=_priority)
                await self._lease(self._fresh[:GROUP])

    async def _lease(self, fills: list[Fill]) -> None:
        fillers: list[Filler | None] = [None] * len(fills)
        with suppress(Exception):  # each hears by itself what is wrong
            fillers = await self._objects.begin_all([fill.node for fill in fills])
        for fill, filler in zip(fills, fillers, strict=True):
            if filler is not None:
                fill.holds(filler)
            self._fresh.remove(fill)
            lane = self._here[fill]
            lane.leased.append(fill)
            self._has_turn(lane)

    # -- requests and answers ----------------------------------------------------------------

    async def _ask_all(self) -> None:
        while True:
            await self._to_ask.wait()
            while self._came:
                for _ in range(min(AT_ONCE, len(self._came))):
                    await self._take(self._came.pop(0))
                    await self._ask_some()
                await trio.lowlevel.checkpoint()
            await self._ask_some()

    async def _end_patience(self) -> None:
        """See that no answer is waited for too long; those that come in time cost nothing."""
        while True:
            if not self._under_way:
                await self._any_under_way.wait()
                continue
            late = trio.current_time() - self._deadline
            for asked, (_, at) in self._under_way.items():
                if at > late:
                    await trio.sleep(at - late)
                    break
                asked.cancel()
            else:
                await trio.sleep(TICK)  # they are told of at once

    async def _ask_some(self) -> None:
        for fill in sorted(self._turns, key=_priority):
            if not fill.plain:
                self._turns.remove(fill)
                if not fill.leased:
                    self._leaves_its_lane(fill)  # it waits for another process, not for the origin
                self._goes_on(fill)
            elif self._has_slot(fill):
                fill.has_slot = True
                self._turns.remove(fill)
                await self._ask(fill)

    def _has_slot(self, fill: Fill) -> bool:
        """Whether there is a slot for a file, which is the caller's then; else it is waited for.

        Each file waits by itself, among the fills that run by themselves: whoever is most urgent of all has
        the next one.
        """
        waiting = self._waiting.pop(fill, None)
        if waiting is None:
            if self._slots.take_at_once(fill.urgency):
                return True
            waiting = self._slots.wait_for(fill.urgency, self._to_ask.set)
        if not waiting.has_come:
            self._waiting[fill] = waiting
        return waiting.has_come

    async def _ask(self, fill: Fill) -> None:
        """Ask for a file, with a slot."""
        asked = None
        with suppress(Exception):  # as above
            asked = await self._remote.begin(fill.path, fill.validator, self._told)
        if asked is None:
            self._goes_on(fill)
        else:
            self._under_way[asked] = (fill, trio.current_time())
            self._any_under_way.set()

    def _goes_on(self, fill: Fill, asked: Asked | None = None, failure: Exception | None = None) -> None:
        self._gone_on[fill] = self._here.pop(fill)
        self._go_on(fill, asked, failure)

    def _told(self, asked: Asked) -> None:
        self._came.append(asked)
        self._to_ask.set()

    async def _take(self, asked: Asked) -> None:
        fill, asked_at = self._under_way.pop(asked)
        body = None
        with suppress(Exception):  # as above
            answer = asked.plain()
            if answer is not None and await fill.takes(*answer):
                body = answer[1]
        if body is None:
            self._goes_on(fill, asked)
            return
        self._pace.answered(trio.current_time() - asked_at)
        asked.close()
        fill.has_slot = False
        self._slots.give_back()
        self._leaves_its_lane(fill)
        self._bodies.append((fill, body))
        self._to_store.set()

    # -- bytes -------------------------------------------------------------------------------

    async def _store_all(self) -> None:
        while True:
            await self._to_store.wait()
            while self._bodies:
                bodies, self._bodies = self._bodies, []
                jobs = [fill.storing(body, wanted=self._wanted) for fill, body in bodies]
                await all_done(jobs, waits=self._objects.syncing)
                for (fill, body), job in zip(bodies, jobs, strict=True):
                    try:
                        await fill.stored(len(body), job)
                    except Exception as exc:
                        log.debug("%s could not be kept", fill.path, exc_info=True)
                        # For one that is still to be written the fill makes room, and fetches it once more.
                        again = isinstance(exc, CacheFull) and job.stage == "write"
                        self._goes_on(fill, failure=None if again else exc)
                    else:
                        del self._here[fill]
                        self._ended(fill)

    # -- the end -----------------------------------------------------------------------------

    async def _let_go(self) -> None:
        for waiting in self._waiting.values():
            self._slots.stop_waiting(waiting)
        for asked in self._under_way:
            asked.cancel()
        while self._under_way:
            for asked in self._came:
                # Without its answer's having been looked at its connection is closed.
                asked.close()
                self._under_way.pop(asked, None)
            self._came.clear()
            if self._under_way:
                await self._to_ask.wait()
        for fill in list(self._here):
            fill.abandon()
            self._ended(fill)


def _priority(fill: Fill) -> Priority:
    return fill.urgency.priority
