"""One version on its way into the cache, whoever wants it.

A fill owns the lease of one object and everything that is requested for it. Readers wait on it for
ranges; it decides part by part what to request next (:mod:`mirror.fetch.plan`), so that a demand is
served first wherever it lies. Every answer is checked against the version before a byte of it is
written: bytes of two versions never meet in one object.

When another process holds the lease, the fill follows: it watches the other's extents appear in the
index, serves them, and takes over where they end as soon as the lease is free.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import trio

from cache import CacheError, CacheFull, Extents, Filler, Node, Objects, same_version
from cache.digests import Digest
from mirror.errors import (
    BrokenPromise,
    MirrorError,
    NoSpace,
    NotFound,
    OriginFailed,
    Transient,
    VersionChanged,
)
from mirror.fetch.plan import Range, next_part
from mirror.fetch.promise import Promise
from mirror.fetch.slots import Priority, Slots
from mirror.remotes.base import Part, Remote
from mirror.retry import Attempts, Schedule

log = logging.getLogger(__name__)

PARALLEL_PARTS = 4
"""Parts of one file under way at once, when the origin serves ranges."""
NEARBY_PARTS = 2
NEARBY = 0.02
"""As many for an origin that answers within so many seconds: one connection keeps such a link busy, a
second one hides the gaps, and any further one only takes the processor from the readers (measured)."""
URGENT_PARTS = 4
"""Further ones for readers that wait elsewhere in the file."""
SMALL = 1024 * 1024
"""Files up to this size are gathered in memory and written at once."""
UNKNOWN = 1 << 62
"""Where a file ends as long as nobody has said."""
FLUSH = 1024 * 1024
"""Received bytes are gathered up to this many before they are written; more only delays the readers."""
ROOM = 16 * 1024 * 1024
"""Bytes to evict at least when the disk is full although there should have been room."""
FULL_TRIES = 4
"""How often a write is tried on such a disk."""
FOLLOW_INTERVAL = 0.05
FIRST_FOLLOW_INTERVAL = 0.005
"""Seconds between looks at what another process fills, and between the first two, from where on they
double: most files are small, and complete in a moment."""

Chunk = bytes | bytearray | memoryview


class FillState(Enum):
    """Life of a fill; only `Fill._enter` moves it."""

    WAITING = auto()
    """Created; nothing is known about the lease yet."""
    FOLLOWING = auto()
    """Another process fills the object."""
    FILLING = auto()
    """The lease is ours."""
    COMPLETE = auto()
    """Every byte is there and the object has its final name."""
    FAILED = auto()
    """Given up; `error` says why. What was fetched is kept unless the version is gone."""


class _Part:
    """One request under way: it has still to deliver ``at`` to ``stop``."""

    __slots__ = ("at", "attempts", "stop")

    def __init__(self, start: int, stop: int, schedule: Schedule) -> None:
        self.at = start
        self.stop = stop
        self.attempts = Attempts(schedule)


class _Waiter:
    """Somebody who needs a range, or with None the whole file."""

    __slots__ = ("priority", "range", "woken")

    def __init__(self, wanted: Range | None, priority: Priority) -> None:
        self.range = wanted
        self.priority = priority
        self.woken = trio.Event()


class Fill:
    """The one fetch of a version in this process. `run` belongs to the fetcher's nursery."""

    def __init__(
        self,
        node: Node,
        path: str,
        *,
        objects: Objects,
        remote: Remote,
        slots: Slots,
        schedule: Schedule,
        priority: Priority,
        completed: Callable[[Node, int], Awaitable[None]],
        outdated: Callable[[Node, MirrorError], Awaitable[None]],
        discarded: Callable[[Node], None],
    ) -> None:
        self.node = node
        self.state = FillState.WAITING
        self.error: MirrorError | None = None
        self.fetched = 0
        """Bytes that came over the network."""
        self.served = False
        """Readers were told that bytes are there before all were."""
        self._path = path
        self._objects = objects
        self._remote = remote
        self._slots = slots
        self._priority = priority
        self._completed = completed
        self._outdated = outdated
        self._discarded = discarded
        self._schedule = schedule
        self._filler: Filler | None = None
        self._present = Extents()
        self._validator = node.validator
        self._size = node.size
        self._promise = Promise(path)
        self._ranged: bool | None = None  # None: the origin has not answered yet
        self._parallel = PARALLEL_PARTS
        self._parts: list[_Part] = []
        self._waiters: list[_Waiter] = []
        self._cursor = 0
        self._writing = trio.Lock()
        self._kick = trio.Event()  # something the planner should look at happened

    # -- for readers -------------------------------------------------------------------------

    @property
    def priority(self) -> Priority:
        """The most urgent reason for this fill."""
        return min((waiter.priority for waiter in self._waiters), default=self._priority)

    @property
    def validator(self) -> str | None:
        """The version's validator, as far as an answer has told."""
        return self._validator

    def raise_priority(self, priority: Priority) -> None:
        """Somebody more urgent wants it, without waiting here."""
        if priority < self._priority:
            self._priority = priority
            self._slots.reconsider()

    async def wait(self, start: int, stop: int) -> None:
        """Wait until the bytes ``start`` to ``stop`` are present.

        Raises:
            MirrorError: the fill failed, for all who wait.
        """
        self._cursor = stop
        # Once more when it was begun anew between this reader's being woken and its turn.
        while self.state is not FillState.COMPLETE and not self._present.covers(start, stop):
            await self._wait(_Waiter((start, stop), Priority.DEMAND))
        self.served = True

    def look_again(self) -> None:
        """What another process had filled is gone: believe nothing of it before the next look."""
        if self.state is FillState.FOLLOWING:
            self._present = Extents()

    async def whole(self, priority: Priority) -> None:
        """Wait until the object is complete. Raises as `wait` does."""
        await self._wait(_Waiter(None, priority))

    async def _wait(self, waiter: _Waiter) -> None:
        if self.state is FillState.COMPLETE:
            return
        if self.error is None:
            self._waiters.append(waiter)
            self._slots.reconsider()
            self._kick.set()
            try:
                await waiter.woken.wait()
            finally:
                self._waiters.remove(waiter)
        if self.error is not None:
            raise self.error

    def _wake(self) -> None:
        """Let those go on whose bytes are there, or all when the fill has ended."""
        ended = self.state in (FillState.COMPLETE, FillState.FAILED)
        for waiter in self._waiters:
            if ended or (waiter.range is not None and self._present.covers(*waiter.range)):
                waiter.woken.set()

    # -- life --------------------------------------------------------------------------------

    def _enter(self, state: FillState) -> None:
        self.state = state
        self._wake()

    async def run(self) -> None:
        """Fetch what is missing and complete the object; never raises but when cancelled."""
        error: MirrorError = OriginFailed("the mirror is shutting down")
        keep = True
        try:
            try:
                await self._fill()
            except BrokenPromise as exc:
                log.warning("%s; fetching it once more", exc)
                self._start_over()
                await self._fill()
        except BrokenPromise as exc:
            error, keep = exc, False
            self._discarded(self.node)
        except (VersionChanged, NotFound) as exc:
            # Before any waiting opener hears of it: the kernel looks the name up again at once.
            error, keep = exc, False
            await self._outdated(self.node, exc)
        except MirrorError as exc:
            error = exc
        except CacheFull as exc:
            # Also what was kept so far goes: the index, and other files, need room as well.
            error, keep = NoSpace(str(exc)), False
        except CacheError as exc:
            error = NoSpace(f"the cache failed: {exc}")
        except Exception as exc:
            log.exception("%s: unexpected", self._path)
            error = OriginFailed(f"{self._path}: {exc!r}")
        finally:
            if self.state is not FillState.COMPLETE:
                self.error = error
                self._give_up(keep=keep)

    async def _fill(self) -> None:
        if await self._take_lease():
            await self._finish(await (self._fetch_small() if self._is_small() else self._fetch_parts()))

    def _start_over(self) -> None:
        """Throw away what came, and what was learned from the answers that brought it."""
        filler, self._filler = self._held(), None
        self._present = Extents()
        self._validator, self._size, self._ranged = self.node.validator, self.node.size, None
        self._promise = Promise(self._path)
        self._discarded(self.node)
        filler.discard()

    async def _take_lease(self) -> bool:
        """True once the object is ours to fill; False when another process completed it."""
        pause = FIRST_FOLLOW_INTERVAL
        while True:
            filler = await self._lease()
            if filler is not None:
                self._filler = filler
                self._present = filler.present
                self._enter(FillState.FILLING)
                self._say_why(filler)
                return True
            state = await self._objects.patiently(self._objects.state, self.node)
            if state.complete:
                fd = await self._objects.patiently(self._objects.open_complete, self.node)
                if fd is not None:
                    await self._finish(fd)
                    return False
            self._present = state.extents
            self._enter(FillState.FOLLOWING)
            await trio.sleep(pause)
            pause = min(2 * pause, FOLLOW_INTERVAL)

    async def _lease(self) -> Filler | None:
        try:
            return await self._objects.patiently(self._objects.fill, self.node)
        except CacheFull:
            # Not even an empty file: others fill the disk as well. One object's room is enough for that.
            if not await self._objects.free(1):
                raise
            return self._objects.fill(self.node)

    async def _finish(self, fd: int) -> None:
        self._filler = None
        # The kernel learns of its backing file before any opener is answered.
        await self._completed(self.node, fd)
        self._enter(FillState.COMPLETE)

    def _give_up(self, *, keep: bool) -> None:
        filler, self._filler = self._filler, None
        try:
            if filler is not None:
                (filler.close if keep else filler.discard)()
        except CacheError as exc:
            log.warning("%s: what was fetched could not be put away: %s", self._path, exc)
        self._enter(FillState.FAILED)

    def _held(self) -> Filler:
        assert self._filler is not None, "only called while the lease is held"
        return self._filler

    # -- fetching ----------------------------------------------------------------------------

    def _is_small(self) -> bool:
        return self._size is not None and self._size <= SMALL and not self._present.total

    async def _fetch_small(self) -> int:
        """One request, everything else in one go: most files are small, and every step costs."""
        chunks: list[Chunk] = []
        attempts = Attempts(self._schedule)
        while self._size:
            try:
                async with self._slots.hold(lambda: self.priority):
                    attempts.asks()
                    async with self._remote.open_part(self._path, validator=self._validator) as body:
                        self._check(body)
                        await self._make_room()
                        chunks = [chunk async for chunk in body]
                break
            except Transient as exc:
                await self._pause(attempts, exc)
        received = sum(len(chunk) for chunk in chunks)
        self.fetched += received
        if received != self._size:
            raise self._other_size(received)
        filler = self._held()
        digest = await self._promise.check(chunks, received)
        if chunks:
            await self._write(filler, 0, chunks, received)
        return await self._objects.patiently(self._complete, filler, digest)

    async def _fetch_parts(self) -> int:
        """Request parts until nothing is missing."""
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:
            while (missing := self._missing()) and not failures:
                self._kick = trio.Event()
                part = self._next_part(missing)
                if part is not None:
                    self._parts.append(part)
                    nursery.start_soon(self._fetch_part, part, failures)
                else:
                    await self._kick.wait()
            if failures:
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        filler = self._held()
        digest = await self._promise.check_written(filler)
        return await trio.to_thread.run_sync(self._complete, filler, digest)

    def _complete(self, filler: Filler, digest: Digest | None) -> int:
        if digest is not None:
            filler.promise(str(digest))
        self._say_why(filler)  # somebody may have opened it since
        return filler.complete()

    def _say_why(self, filler: Filler) -> None:
        filler.arrives(opened=self._priority is Priority.DEMAND, wanted=self._priority is Priority.WARM)

    def _missing(self) -> list[Range]:
        if self._size is None:
            return [(0, UNKNOWN)]
        return self._present.gaps(0, self._size)

    def _next_part(self, missing: list[Range]) -> _Part | None:
        """The next part to request now, or None: wait for those under way, or for a demand."""
        under_way = [(part.at, part.stop) for part in self._parts]
        if under_way and not self._ranged:
            return None  # the first answer, or the only one there is, decides
        demands = [waiter.range for waiter in self._waiters if waiter.range is not None]
        if len(under_way) >= self._parallel + (URGENT_PARTS if demands else 0):
            return None
        cursor = self._cursor if len(under_way) < self._parallel else None
        chosen = next_part(missing, under_way, demands, cursor)
        if chosen is None:
            return None
        if chosen.cut is not None:
            self._parts[chosen.cut].stop = chosen.start
        return _Part(chosen.start, chosen.stop, self._schedule)

    async def _fetch_part(self, part: _Part, failures: list[Exception]) -> None:
        try:
            while part.at < part.stop:
                try:
                    async with self._slots.hold(lambda: self.priority):
                        part.attempts.asks()
                        await self._request(part)
                except Transient as exc:
                    await self._pause(part.attempts, exc)
        except (MirrorError, CacheError) as exc:
            failures.append(exc)
        finally:
            self._parts.remove(part)
            self._kick.set()

    async def _pause(self, attempts: Attempts, failure: Transient) -> None:
        """Wait before the next try, or give up."""
        pause = attempts.failed(failure)
        if pause is None:
            raise OriginFailed(f"{self._path}: {failure}") from failure
        log.info("%s: %s; trying again in %.1f s", self._path, failure, pause)
        await trio.sleep(pause)

    async def _request(self, part: _Part) -> None:
        """Make one request for what is left of a part and write what comes."""
        everything = part.at == 0 and (self._size is None or part.stop >= self._size)
        stop = None if everything else part.stop
        asked_at = trio.current_time()
        async with self._remote.open_part(self._path, part.at, stop, validator=self._validator) as body:
            self._parallel = NEARBY_PARTS if trio.current_time() - asked_at < NEARBY else PARALLEL_PARTS
            await self._begin(body)
            if not self._ranged:
                # The whole file has to come in one answer: this part is the only one from now on.
                part.at, part.stop = 0, UNKNOWN if self._size is None else self._size
                if body.start > 0 or body.stop not in (None, self._size):
                    return  # it does not: ask again, for everything
            self._kick.set()
            await self._receive(body, part)
            if body.stop is None and self._size not in (None, part.at):
                raise self._other_size(part.at)
        if self._size is None:
            self._size = part.stop = part.at
            self._held().set_size(self._size)

    def _check(self, body: Part) -> None:
        """Hold the answer's headers against the version; learn what the listing did not say."""
        seen = body.entry
        if not same_version(self.node, seen):
            raise VersionChanged(f"{self._path} has changed at the origin")
        self._promise.heard(body.digest)
        if self._size is None and body.size is not None:
            self._size = body.size
            self._held().set_size(body.size)
        if self._validator is None and seen.validator is not None:
            self._validator = seen.validator
            self._held().learn(seen.validator)
        joinable = seen.validator is not None or (seen.mtime_ns is not None and self._size is not None)
        if not joinable and self._present.total:
            # Nothing tells whether this answer continues the earlier one: never join them.
            raise VersionChanged(f"{self._path} cannot be continued: the origin gives it no validator")
        self._ranged = body.ranges and joinable and self._size is not None

    async def _begin(self, body: Part) -> None:
        """`_check`, and note a validator that is new before anybody is given a byte.

        A version of the same size and time could not be told from this one otherwise.
        """
        validator = self._validator
        self._check(body)
        if self._validator is not None and self._validator != validator:
            known = await self._objects.learn(self.node, self._validator)
            if known != self._validator:
                raise VersionChanged(f"{self._path} has changed at the origin")
        await self._make_room()

    async def _make_room(self) -> None:
        """Reserve room for all of a file, now that the origin answers: else nothing is evicted for it.

        Raises:
            CacheFull: it will not fit.
        """
        if self._size is not None:
            await self._objects.reserve(self._held(), self._size)

    def _other_size(self, received: int) -> VersionChanged:
        return VersionChanged(f"{self._path} has changed at the origin: {received} bytes, not {self._size}")

    async def _receive(self, body: Part, part: _Part) -> None:
        """Write the body as it comes, up to where another part was given the rest."""
        gathered: list[Chunk] = []
        size = 0
        try:
            async for chunk in body:
                gathered.append(chunk)
                size += len(chunk)
                if size >= FLUSH or part.at + size >= part.stop:
                    await self._store(part, gathered, size)
                    gathered, size = [], 0
                    if part.at >= part.stop and body.stop not in (None, part.stop):
                        return
        except Transient:
            # What came before the break is good: the next try continues behind it.
            await self._store(part, gathered, size)
            raise
        await self._store(part, gathered, size)

    async def _write(self, filler: Filler, at: int, chunks: list[Chunk], size: int) -> None:
        """Write to the object; where the disk is fuller than anybody knew, others are evicted for it."""
        await self._objects.reserve(filler, filler.present.total + size)
        for left in reversed(range(FULL_TRIES)):
            try:
                if size <= SMALL and not filler.present:
                    await self._objects.patiently(filler.write, at, *chunks)  # all of a small file
                else:
                    await trio.to_thread.run_sync(filler.write, at, *chunks)
            except CacheFull:
                if not left or not await self._objects.free(max(ROOM, size)):
                    raise
            else:
                return

    async def _store(self, part: _Part, chunks: list[Chunk], size: int) -> None:
        if not size:
            return
        surplus = part.at + size - part.stop
        if surplus > 0 and part.stop == self._size:
            raise self._other_size(part.at + size)
        if surplus > 0:
            chunks[-1] = memoryview(chunks[-1])[: len(chunks[-1]) - surplus]
            size -= surplus
        # One at a time: a file system lets nobody else write to the same file anyway.
        async with self._writing:
            filler = self._held()
            had = filler.present.total
            await self._write(filler, part.at, chunks, size)
            new = filler.present.total > had
        part.at += size
        self.fetched += size
        if new:
            # An origin without ranges that breaks off again and again only sends the same bytes anew.
            part.attempts.progressed()
        self._wake()
