"""The fetcher: every wish for bytes of one source, one fill per version.

Readers ask for ranges or for whole files; whether the bytes come from a complete object, from one
that is being filled here or by another process, or (when the cache cannot hold them) straight from
the origin is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import trio

from cache import CacheError, Node, Objects, Verification
from mirror.background import background
from mirror.config import FetchMode
from mirror.errors import MirrorError, NoSpace, NotFound, OriginFailed, VersionChanged
from mirror.fetch.ahead import ReadAhead
from mirror.fetch.bypass import Bypass
from mirror.fetch.descriptors import Delivery, Descriptors
from mirror.fetch.fill import Fill
from mirror.fetch.life import FillState
from mirror.fetch.pace import Pace
from mirror.fetch.slots import Fixed, Priority, Slots
from mirror.fetch.small import Lane, SmallFiles
from mirror.fetch.storing import SMALL
from mirror.flight import SingleFlight
from mirror.namespace import REVALIDATION, Namespace
from mirror.remotes.base import Asked, Bulk, Remote
from mirror.retry import Schedule
from mirror.traffic import CONNECTIONS

log = logging.getLogger(__name__)

RESERVED = 4
"""So many of the requests to one source are kept for blocked readers, but never more than a quarter."""
SHARED_PATIENCE = 0.5
"""Seconds that a reader waits for another process to fetch what it reads; it may be after other bytes."""
SMALL_AHEAD = 32
"""Neighbours that are fetched ahead at once where small ones are fetched many at once."""
HANDED_OVER_AT_ONCE = 8
"""Complete files ahead of a reader that are handed over before others of the event loop have their turn."""
LONGEST_QUEUE = 1024
"""Neighbours that wait; the oldest are forgotten beyond it, they were passed by."""
READ_TRIES = 16
"""How often bytes are fetched for one read: in a cache that is far too small they may be gone at once."""
MOST_WITHOUT_ROOM = 1024
"""Files remembered as too large for the room there is; beyond it, all are tried once more."""


@dataclass(slots=True)
class Counters:
    """What the fetcher has done since it was made."""

    fills_started: int = 0
    fills_completed: int = 0
    fills_failed: int = 0
    fetched_ahead: int = 0
    bytes_fetched: int = 0
    damaged: int = 0
    """Objects that were not what had come, found before they were registered."""
    hedges: int = 0
    """Parts that were slow to come and were asked for once more."""
    bytes_twice: int = 0
    """Bytes that came twice for that."""
    bytes_bypassed: int = 0
    """Served straight from the origin because the cache could not hold them."""


class Fetcher:
    """Bytes of one source. Made by `open_fetcher`, which owns its background work."""

    def __init__(
        self,
        nursery: trio.Nursery,
        objects: Objects,
        remote: Remote,
        namespace: Namespace,
        schedule: Schedule,
        completed: Callable[[Node, int], None] | None,
        delivery: Delivery,
        verification: Verification | None,
        discarded: Callable[[Node], None],
        connections: int,
        mode: FetchMode,
        whole_up_to: int,
    ) -> None:
        self.counters = Counters()
        self._verification = verification
        self._verifying: SingleFlight[int, bool] = SingleFlight()
        self._nursery = nursery
        self._objects = objects
        self._remote = remote
        self._namespace = namespace
        self._schedule = schedule
        self._register = completed
        reserved = min(RESERVED, connections // 4)
        self._slots = Slots(connections, reserved)
        self.pace = Pace(connections)
        self._spare = connections - reserved
        self._mode = mode
        self._whole_up_to = whole_up_to
        self._fills: dict[int, Fill] = {}
        self._delivery = delivery
        self._on_discard = discarded
        self._ahead = ReadAhead(namespace.children)
        self._window: deque[tuple[str, Node]] = deque(maxlen=LONGEST_QUEUE)
        self.bypass = Bypass(nursery, remote, self._slots, schedule, namespace.path)
        self._small = (
            SmallFiles(
                objects,
                remote,
                self._slots,
                self.pace,
                schedule.deadline,
                completed is not None or verification is not None,
                self._by_itself,
                self._ended,
            )
            if isinstance(remote, Bulk)
            else None
        )
        if self._small is not None:
            nursery.start_soon(self._small.run)
        self._without_room: set[int] = set()
        """Nodes whose fills found the cache full: reads try it again after the next open only."""

    @property
    def running(self) -> int:
        """Fills under way."""
        return len(self._fills)

    @property
    def requests_under_way(self) -> int:
        """Requests for bytes of files that hold a connection at this moment."""
        return self._slots.held

    @property
    def connections(self) -> int:
        """Most requests at once."""
        return self._slots.total

    def connection(self, priority: Priority) -> AbstractAsyncContextManager[None]:
        """Hold one of them, for a question that is not one of ours."""
        return self._slots.hold(Fixed(priority))

    def limit(self, connections: int) -> None:
        """Leave some of them to others from now on."""
        self._slots.resize(connections)
        self._spare = min(self._spare, connections)

    @property
    def bytes_fetched(self) -> int:
        """Bytes that came over the network, of ended fills and of those under way."""
        return self.counters.bytes_fetched + self.bytes_under_way

    @property
    def bytes_under_way(self) -> int:
        """Bytes that the fills under way have fetched so far."""
        return sum(fill.fetched for fill in self._fills.values())

    async def complete(self, node: Node) -> bool:
        """Hand the object of a complete file to ``completed``; False when it is not complete."""
        if node.id in self._fills:
            return False
        if self._verification is not None:
            # Each once, however many open it: the others find it registered.
            return await self._verifying.run(node.id, partial(self._complete, node))
        return await self._complete(node)

    async def _complete(self, node: Node) -> bool:
        if self._objects.held(node) is not None:
            fd = self._objects.open_complete(node)  # completed a moment ago: the kernel knows the name
        else:
            fd = await self._objects.patiently(self._objects.open_complete, node)
        if fd is None or not await self._intact(node, fd):
            return False
        self._objects.touch(node.id)
        self._hand_over(node, fd)
        return True

    async def _intact(self, node: Node, fd: int) -> bool:
        if self._verification is None or await self._verification.intact(node, fd):
            return True
        self.counters.damaged += 1
        return False

    def size(self, node: Node) -> int:
        """Bytes of a complete file, also when no header ever told."""
        return self._objects.state(node).extents.stop

    def fetches_whole(self, node: Node) -> bool:
        """Whether all of a file is fetched, whatever is read of it."""
        return self._mode is FetchMode.WHOLE or node.size is None or node.size <= self._whole_up_to

    @property
    def bulk(self) -> bool:
        """Whether small files are fetched many at once, so that it pays to start several together."""
        return self._small is not None

    def start(
        self, node: Node, priority: Priority, path: str | None = None, lane: Lane | None = None
    ) -> Fill:
        """Begin to fetch a file, or raise the priority of its fill.

        Args:
            node: the file.
            priority: why.
            path: its own, where it is known.
            lane: of files that are asked for one after the other, if they are small.
        """
        fill = self._fills.get(node.id)
        if fill is not None:
            fill.raise_priority(priority)
            self._hurry(fill, priority)
            return fill
        self._without_room.discard(node.id)
        fill = self._fills[node.id] = Fill(
            node,
            self._namespace.path(node) if path is None else path,
            objects=self._objects,
            remote=self._remote,
            slots=self._slots,
            schedule=self._schedule,
            priority=priority,
            completed=self._completed,
            outdated=self._outdated,
            discarded=self._discarded,
            pace=self.pace,
            mode=self._mode
            if priority is Priority.DEMAND and not self.fetches_whole(node)
            else FetchMode.WHOLE,
        )
        self.counters.fills_started += 1
        if self._small is not None and self._goes_with_others(node):
            self._small.add(fill, lane or Lane())
        else:
            self._by_itself(fill)
        return fill

    def _goes_with_others(self, node: Node) -> bool:
        return self._small is not None and 0 < (node.size or 0) <= SMALL

    def _hurry(self, fill: Fill, priority: Priority) -> None:
        if self._small is not None and priority is Priority.DEMAND:
            self._small.hurry(fill)

    async def whole(self, node: Node, priority: Priority = Priority.DEMAND) -> None:
        """Return once the file is complete and handed to ``completed``.

        Raises:
            NoSpace: the cache cannot hold it; `read` still serves it.
            MirrorError: it cannot be fetched.
        """
        if not await self.complete(node):
            await self.missing(node, priority)

    async def missing(self, node: Node, priority: Priority) -> None:
        """`whole`, for a file that is not known to be complete."""
        await self.start(node, priority).whole(priority)

    async def read(self, node: Node, offset: int, size: int) -> bytes | bytearray:
        """Up to ``size`` bytes at ``offset``: fewer only at the end of the file.

        Raises:
            VersionChanged: the rest of this version cannot be had any more.
            MirrorError: the bytes cannot be had now.
        """
        stop = offset + size if node.size is None else min(offset + size, node.size)
        if offset >= stop:
            return b""
        for _ in range(READ_TRIES):
            data = await self._read(node, offset, stop)
            if data is not None:
                return data
            # It was evicted, dropped as damaged or lost by the disk: it is fetched again, once the fill that
            # may know of it has ended.
            self._delivery.forget(node.id)
            fill = self._fills.get(node.id)
            if fill is not None and fill.state is not FillState.FOLLOWING:
                with suppress(MirrorError):
                    await fill.whole(Priority.DEMAND)
            await trio.lowlevel.checkpoint()
        raise OriginFailed(f"the cached bytes of {node.name} were lost each time they were read")

    async def _read(self, node: Node, offset: int, stop: int) -> bytes | bytearray | None:
        """None: what was there is gone again (completed and evicted, discarded by another process)."""
        fill = self._fills.get(node.id)
        if fill is None:
            data = await self._delivery.read(node, offset, stop, partial=False)
            if data is not None:
                return data
            if node.id in self._without_room:
                return await self._read_origin(node, offset, stop)
            fill = self.start(node, Priority.DEMAND)
        else:
            self._hurry(fill, Priority.DEMAND)
        try:
            if not await self._present(fill, offset, stop):
                return await self._read_origin(node, offset, stop)
        except NoSpace:
            return await self._read_origin(node, offset, stop)
        except NotFound as exc:
            # To the reader of an open file the name's end is the end of its version.
            raise VersionChanged(str(exc)) from exc
        if fill.state is FillState.FOLLOWING:
            # What another process fills may be discarded by it at any time: nothing is kept open.
            read = self._objects.partials.read
            data = await trio.to_thread.run_sync(read, node, offset, stop - offset)
            if data is None:
                fill.look_again()
            return data
        return await self._delivery.read(node, offset, stop, partial=True)

    async def _present(self, fill: Fill, offset: int, stop: int) -> bool:
        """Wait for a range; False: another process fetches what is read there, and not this."""
        if fill.wants_all:
            await fill.wait(offset, stop)
            return True
        while True:
            with trio.move_on_after(SHARED_PATIENCE):
                await fill.wait(offset, stop)
                return True
            if fill.shares:
                return False

    def opened(self, node: Node) -> Sequence[Node]:
        """Note that a reader opened a file; what it will open next is fetched ahead, and returned.

        The first time that it is known, as it is in the index at this moment.
        """
        window = self._ahead.opened(node)
        if window:
            # Each of them is fetched in its turn: what can be asked once for all of them is asked here.
            complete = self._objects.complete_of([neighbour.id for neighbour in window])
            folder = self._namespace.path(node).removesuffix(node.name)
            self._window.extend((folder + each.name, each) for each in window if each.id not in complete)
            self._fetch_ahead()
            if complete and self._verification is None:
                ready = [each for each in window if each.id in complete]
                self._nursery.start_soon(self._hand_over_ahead, ready)
        return window

    async def _hand_over_ahead(self, files: Sequence[Node]) -> None:
        """Hand over what is complete, so that its opens need not come here."""
        for count, node in enumerate(files):
            if count % HANDED_OVER_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if self._ahead.is_tripwire(node):
                continue
            try:
                fd = self._objects.open_complete(node)
            except (CacheError, OSError) as exc:
                # Whoever opens it is told. Nobody waits for this, and nothing else must end with it.
                log.debug("%s is not handed over before it is opened: %s", node.name, exc)
                return
            if fd is not None:
                self._hand_over(node, fd)

    def _fetch_ahead(self) -> None:
        """Keep a few neighbours on their way; the others wait here, where they cost nothing."""
        few = self.pace.ahead(self._spare)
        while self._window:
            path, neighbour = self._window[0]
            if len(self._fills) >= (max(few, SMALL_AHEAD) if self._goes_with_others(neighbour) else few):
                return
            self._window.popleft()
            # One that others have completed meanwhile is found complete by its fill.
            if neighbour.id not in self._fills and not self._objects.sealing(neighbour):
                self.counters.fetched_ahead += 1
                self.start(neighbour, Priority.AHEAD, path)

    def close(self) -> None:
        """Close the objects kept open for readers."""
        self._delivery.close()

    # -- life of a fill ----------------------------------------------------------------------

    def _by_itself(self, fill: Fill, asked: Asked | None = None, failure: Exception | None = None) -> None:
        """Have a task for a fill."""
        self._nursery.start_soon(self._run, fill, asked, failure)

    async def _run(self, fill: Fill, asked: Asked | None, failure: Exception | None) -> None:
        try:
            await fill.run(asked, failure)
        finally:
            if self._small is not None:
                self._small.left(fill)
            self._ended(fill)

    def _ended(self, fill: Fill) -> None:
        del self._fills[fill.node.id]
        self._fetch_ahead()
        self.counters.bytes_fetched += fill.fetched
        self.counters.hedges += fill.hedges.made
        self.counters.bytes_twice += fill.hedges.wasted
        if fill.state is FillState.COMPLETE:
            self.counters.fills_completed += 1
        elif fill.state is FillState.LAPSED:
            self._delivery.forget(fill.node.id)
        else:
            self.counters.fills_failed += 1
            self._delivery.forget(fill.node.id)
            log.info("%s: not fetched: %s", self._namespace.path(fill.node), fill.error)
            if isinstance(fill.error, NoSpace):
                self._read_past_the_cache(fill, str(fill.error))

    async def _completed(self, node: Node, fd: int | None) -> None:
        if fd is None:
            return
        fill = self._fills.get(node.id)
        if not await self._intact(node, fd):
            raise OriginFailed(f"the disk of the cache does not keep what is written to it: {node.name}")
        if fill is not None and fill.priority is Priority.AHEAD and self._ahead.is_tripwire(node):
            os.close(fd)
        else:
            self._hand_over(node, fd)

    def _hand_over(self, node: Node, fd: int) -> None:
        try:
            if self._register is not None:
                self._register(node, fd)
        finally:
            os.close(fd)

    def _discarded(self, node: Node) -> None:
        """Bytes that readers may have had were wrong: nobody is to get them once more."""
        self._delivery.forget(node.id)
        self._on_discard(node)

    async def _outdated(self, node: Node, error: MirrorError) -> None:
        """Let the namespace find out what stands at the name now."""
        try:
            if isinstance(error, NotFound):
                await self._namespace.gone(node)
            else:
                await self._namespace.ask(node, REVALIDATION)
        except NotFound:
            pass  # the namespace has noted that
        except (MirrorError, CacheError) as exc:
            log.warning("%s changed, what it is now is not known yet: %s", node.name, exc)

    # -- past the cache ----------------------------------------------------------------------

    def _read_past_the_cache(self, fill: Fill, why: str) -> None:
        # Of what nobody reads now it is no news: whoever wanted it is told.
        level = logging.WARNING if fill.priority is Priority.DEMAND else logging.INFO
        log.log(level, "%s is read past the cache: %s", fill.node.name, why)
        if len(self._without_room) >= MOST_WITHOUT_ROOM:
            self._without_room.clear()
        self._without_room.add(fill.node.id)
        self.bypass.begin(fill.node, fill.validator, answered=fill.served)

    async def _read_origin(self, node: Node, offset: int, stop: int) -> bytes:
        try:
            data = await self.bypass.read(node, offset, stop)
        except (VersionChanged, NotFound) as exc:
            await self._outdated(node, exc)
            raise VersionChanged(str(exc)) from exc
        self.counters.bytes_bypassed += len(data)
        return data


@asynccontextmanager
async def open_fetcher(
    objects: Objects,
    remote: Remote,
    namespace: Namespace,
    *,
    schedule: Schedule,
    completed: Callable[[Node, int], None] | None = None,
    delivery: Delivery | None = None,
    verification: Verification | None = None,
    discarded: Callable[[Node], None] = lambda _node: None,
    connections: int = CONNECTIONS,
    mode: FetchMode = FetchMode.WHOLE,
    whole_up_to: int = 0,
) -> AsyncIterator[Fetcher]:
    """A fetcher whose fills end with this context: cancelled, their lease given back, resumable.

    ``completed(node, fd)`` is called for every object that becomes complete or is opened complete;
    it must not keep ``fd``. ``delivery`` answers reads; by default with the bytes. With ``verification``
    every object is compared with its checksums before it is handed over. ``discarded(node)`` is called
    when bytes of an incomplete file turned out to be wrong: what anybody keeps of them must go.
    ``connections``: most requests at once. ``mode``: how much is fetched of files of more than
    ``whole_up_to`` bytes when some of it is read.
    """
    async with background() as nursery:
        fetcher = Fetcher(
            nursery,
            objects,
            remote,
            namespace,
            schedule,
            completed,
            delivery or Descriptors(objects),
            verification,
            discarded,
            connections,
            mode,
            whole_up_to,
        )
        try:
            yield fetcher
        finally:
            fetcher.close()
