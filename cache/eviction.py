"""Making room: which objects go is decided by `cache.policy`, how they go by `cache.removal`.

What this module adds is whom to ask first. An object that somebody has open stays. One that is open only
because it might be read again (a backing file of the kernel, a descriptor kept at hand) is let go: by
this process through `Eviction.holders`, by others through `cache.recalls`. Pinned objects are put aside in
a queue of their own when they are met, so that they are looked at once and not at every eviction.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from cache import bulk, policy
from cache.arrivals import PINNED
from cache.errors import CacheError
from cache.held import Held
from cache.index import Reader
from cache.model import Node
from cache.pins import Pins, unqueue
from cache.policy import Queue, Resident
from cache.recalls import POLL_SECONDS, Recalls
from cache.removal import Removal, Removed
from cache.space import Short, Space, footprint, min_total, no_room
from cache.tree import Tree
from cache.writer import Writer, result_of

log = logging.getLogger(__name__)

LetGo = Callable[[Sequence[int]], Awaitable[set[int]]]
"""Lets go of the objects of nodes that nobody has open; returns the nodes that somebody has."""

PAGE = 256
"""Rows of a queue read at a time."""
ROUNDS = 8
"""How often others are chosen when some could not be had."""
RECALL_ROUNDS = 10
"""How often others are given time to let go, `POLL_SECONDS` each."""
PATIENCE = 4.0
"""Seconds that others are given to seal what they have completed: they gather for 2 s at most."""
ASIDE = 1024
"""Pinned objects that are put aside at once: everybody else's writes wait for such a transaction."""
EXTRA = 16 * 1024 * 1024
"""Bytes evicted beyond what is needed, at most an eighth of what the cache may hold: one eviction costs a
synchronous write, however much it frees."""

_QUEUE = """
    SELECT node, occupied, used_clock, position FROM objects
    WHERE queue = ? AND (position, node) > (?, ?) ORDER BY position, node LIMIT ?
"""
_PUT_ASIDE = "UPDATE objects SET queue = ? WHERE node IN (SELECT value FROM json_each(?))"


async def nobody_has_any(_nodes: Sequence[int]) -> set[int]:
    """The `LetGo` of a process that serves nobody."""
    return set()


class Eviction:
    """Reserves room, evicting where it has to. For tasks of one trio run."""

    def __init__(
        self,
        space: Space,
        removal: Removal,
        recalls: Recalls,
        pins: Pins,
        tree: Tree,
        reader: Reader,
        writer: Writer,
        settle_the_dead: Callable[[], int],
        sync: Callable[[], Awaitable[None]],
    ) -> None:
        """``tree`` and ``reader`` are used in threads, and have to be of their own."""
        self.holders: list[LetGo] = []
        """Whoever has objects of this cache open in this process."""
        self.evicted = 0
        """Objects that were evicted by this process."""
        self.evicted_bytes = 0
        self._space = space
        self._removal = removal
        self._recalls = recalls
        self._pins = pins
        self._tree = tree
        self._reader = reader
        self._writer = writer
        self._settle_the_dead = settle_the_dead
        self._sync = sync
        self._turn = trio.Lock()
        self._looked_at_pinned = False

    async def reserve(self, held: Held, size: int) -> None:
        """Make sure that an object may have ``size`` bytes.

        Raises:
            CacheFull: there is no room, and nothing may go.
            CacheBroken: the index failed.
        """
        until = trio.current_time() + PATIENCE
        while (short := await self._reserved(held, size)) is not None:
            # What others have completed a moment ago can be evicted when they have sealed it. Who reads does
            # not wait for that: there is a way past the cache.
            wait = held.arrival.wanted and short.room.claimed > self._space.claimed
            if not wait or trio.current_time() > until:
                raise no_room(short, _what(held, size))
            await trio.sleep(POLL_SECONDS)

    async def _reserved(self, held: Held, size: int) -> Short | None:
        """None: an object may have ``size`` bytes; else what is missing. Raises as `reserve` does."""
        total = min_total(held, size)
        if self._space.allot(held, total):
            return None
        async with self._turn:
            while not self._space.allot(held, total):
                short = await result_of(self._space.grow(self._space.lacking(held, total)))
                if short is None:
                    continue
                if held.size is None and total > (least := footprint(size)):
                    # In steps where there is room: nothing is evicted or refused for the rest of one.
                    total = least
                    continue
                if total - held.allotted > short.room.capacity:
                    raise no_room(short, _what(held, size))  # nothing is evicted for what will never fit
                if not await self._free(short.missing, short):
                    return short
        return None

    async def free(self, size: int) -> int:
        """Evict objects that take ``size`` bytes or more; returns how many bytes were freed."""
        async with self._turn:
            return await self._free(size, None)

    async def shrink(self) -> int:
        """Evict what is more than the limits allow, as far as it may go; returns how many bytes were freed.

        They are over when they were lowered, or others have filled the disk.
        """
        freed = 0
        while (now := self._space.room()).left < 0:
            async with self._turn:
                more = await self._free(-now.left, Short(-now.left, now))
            if not more:
                break
            freed += more
            # What was freed is in the claim of this process, where it could be taken again at once.
            await self._space.given_back()
        return freed

    async def evict(self, nodes: Sequence[Node], *, rounds: int = RECALL_ROUNDS) -> list[Removed]:
        """Evict these objects; those that are in use or being filled stay. Returns those that went.

        Args:
            nodes: whose objects.
            rounds: 1: try once. More: ask whoever has them idle to let go, and try so often,
                `POLL_SECONDS` apart.

        Raises:
            CacheFull, CacheBroken: the index failed.
        """
        left = await self._let_go(nodes)
        removed = await self._remove(left)
        for attempt in range(1, rounds):
            if not left:
                break
            if attempt == 1:
                await trio.to_thread.run_sync(self._recalls.ask, [node.id for node in left])
            await trio.sleep(POLL_SECONDS)
            removed += await self._remove(left)
        return removed

    async def _free(self, need: int, short: Short | None) -> int:
        if await trio.to_thread.run_sync(self._settle_the_dead) and short is not None:
            return 1  # the dead may have had what is missing: ask again
        capacity = (self._space.room() if short is None else short.room).capacity
        wanted = need + min(EXTRA, capacity // 8)
        busy: set[int] = set()
        recalled: list[Node] = []
        freed = 0
        synced = False
        for _ in range(ROUNDS):
            if freed >= need:
                return freed
            nodes = await trio.to_thread.run_sync(self._chosen, wanted - freed, capacity, busy)
            if nodes:
                freed += await self._evict(nodes, busy, recalled)
            elif synced:
                break
            else:
                # What was completed a moment ago is no object of the index yet, and may go as well.
                await self._sync()
                synced = True
                if not self._looked_at_pinned:
                    # A run that was killed may have left aside what it spared (`Pins.sparing`).
                    self._looked_at_pinned = True
                    await self._writer.run(unqueue)
        for _ in range(RECALL_ROUNDS):
            if freed >= need or not recalled:
                break
            await trio.sleep(POLL_SECONDS)
            freed += _freed(await self._remove(recalled))
        return freed

    async def _evict(self, nodes: Sequence[Node], busy: set[int], recalled: list[Node]) -> int:
        """Evict what can be had at once. Returns bytes freed.

        The others are added to ``busy``; those that another process has, also to ``recalled``: it is asked
        to let them go, and needs a moment for that.
        """
        left = await self._let_go(nodes)
        busy |= {node.id for node in nodes} - {node.id for node in left}
        freed = _freed(await self._remove(left))
        if left:
            busy |= {node.id for node in left}
            await trio.to_thread.run_sync(self._recalls.ask, [node.id for node in left])
            recalled += left
        return freed

    async def _let_go(self, nodes: Sequence[Node]) -> list[Node]:
        """Let go of what this process has at hand; returns those that nobody has open here."""
        busy: set[int] = set()
        for holder in self.holders:
            busy |= await holder([node.id for node in nodes])
        return [node for node in nodes if node.id not in busy]

    async def _remove(self, nodes: list[Node]) -> list[Removed]:
        """Remove objects, and from the list those that went."""
        removed = await trio.to_thread.run_sync(partial(self._removal.remove, list(nodes), ghosts=True))
        gone = {each.node for each in removed}
        self.evicted += len(gone)
        self.evicted_bytes += _freed(removed)
        nodes[:] = [node for node in nodes if node.id not in gone]
        return removed

    # -- in a thread -------------------------------------------------------------------------

    def _chosen(self, need: int, capacity: int, busy: set[int]) -> list[Node]:
        """The nodes to evict next, by the policy; what is pinned is put aside."""
        sizes: dict[int, int] = dict(self._reader.all("SELECT queue, bytes FROM queues"))
        budget = capacity - sizes[PINNED]
        is_pinned = self._pins.matcher()
        pinned: list[int] = []

        def available(resident: Resident) -> bool:
            if resident.node in busy:
                return False
            if is_pinned(resident.node):
                pinned.append(resident.node)
                if len(pinned) == ASIDE:
                    self._note(pinned, budget)
                    pinned.clear()
                return False
            return True

        victims = policy.choose(
            self._residents(Queue.SMALL),
            self._residents(Queue.MAIN),
            need=need,
            main_bytes=sizes[Queue.MAIN],
            budget=budget,
            available=available,
        )
        self._note(pinned, budget)
        nodes = (self._tree.node(victim.node) for victim in victims)
        return [node for node in nodes if node is not None]

    def _residents(self, queue: Queue) -> Iterator[Resident]:
        last = (-(1 << 62), 0)
        while page := self._reader.all(_QUEUE, queue.value, *last, PAGE):
            for node, occupied, used, _ in page:
                yield Resident(node, occupied, queue, used)
            last = (page[-1][3], page[-1][0])

    def _note(self, pinned: Sequence[int], budget: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(_PUT_ASIDE, (PINNED, bulk.array(pinned)))
            (clock,) = db.execute("SELECT clock FROM space").fetchone()
            db.execute("DELETE FROM ghosts WHERE clock < ?", (policy.forget_ghosts_before(clock, budget),))

        try:
            self._writer.submit(work).result()
        except CacheError as exc:
            log.info("what is pinned stays where it is for now: %s", exc)


def _what(held: Held, size: int) -> str:
    return f"{held.node.name} ({size:,} bytes)"


def _freed(removed: Sequence[Removed]) -> int:
    return sum(each.freed for each in removed)
