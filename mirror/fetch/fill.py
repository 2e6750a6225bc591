"""One version on its way into the cache, whoever wants it.

A fill owns the lease of one object and everything that is requested for it. Readers wait on it for
ranges; it decides part by part what to request next (:mod:`mirror.fetch.plan`), so that a demand is
served first wherever it lies. Every answer is checked against the version before a byte of it is
written: bytes of two versions never meet in one object. Answers without a strong validator are never joined
at all: such a file comes out of one answer, or is begun anew as long as no reader has had a byte of it.

When another process holds the lease, the fill follows: it watches the other's extents appear in the
index, serves them, and takes over where they end as soon as the lease is free.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import trio

from cache import CacheError, CacheFull, Extents, Filler, Node, Objects
from cache.digests import Digest
from cache.file_thread import Job
from mirror.config import FetchMode
from mirror.errors import (
    BrokenPromise,
    MirrorError,
    NoSpace,
    NotFound,
    OriginFailed,
    Transient,
    VersionChanged,
)
from mirror.fetch import storing
from mirror.fetch.awaited import Awaited
from mirror.fetch.hashing import Hashing
from mirror.fetch.life import FillState, LapsedError, NotContinued, TurnError
from mirror.fetch.pace import Pace
from mirror.fetch.part import Chunk, Hedges, PartUnderWay, rests
from mirror.fetch.plan import Range, next_part, shared
from mirror.fetch.promise import AT_ONCE
from mirror.fetch.slots import Held, Priority, Slots
from mirror.fetch.storing import SMALL
from mirror.fetch.version import Version
from mirror.http.throttle import PROCESS
from mirror.remotes.base import Asked, Part, Remote
from mirror.retry import Attempts, Schedule

log = logging.getLogger(__name__)

ENDING = "the mirror is shutting down"

URGENT_PARTS = 4
"""Further ones for readers that wait elsewhere in the file."""
UNKNOWN = 1 << 62
"""Where a file ends as long as nobody has said."""
FLUSH = 2 * 1024 * 1024
FLUSH_SECONDS = 0.05
"""Received bytes are gathered up to this many, or for so long, before they are written; more only delays
the readers."""
TICK = 0.1
"""Seconds between looks at parts that bring nothing, or little."""
IDLE = 10.0
"""Seconds after which a fill ends of which nobody wants more, and after which one that fetches only what is
read lets others have the file for `TURN` seconds: they may want other bytes of it."""
TURN = 0.25
FOLLOW_INTERVAL = 0.05
FIRST_FOLLOW_INTERVAL = 0.005
"""Seconds between looks at what another process fills, and between the first two, from where on they
double: most files are small, and complete in a moment."""


class Fill(Awaited):
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
        completed: Callable[[Node, int | None], Awaitable[None]],
        outdated: Callable[[Node, MirrorError], Awaitable[None]],
        discarded: Callable[[Node], None],
        pace: Pace,
        mode: FetchMode = FetchMode.WHOLE,
    ) -> None:
        super().__init__(priority, slots, mode)
        self.node = node
        self.fetched = 0
        """Bytes that came over the network."""
        self.hedges = Hedges()
        self.found = False
        """It was complete already, or another process has completed it."""
        self.path = path
        self._version = Version(node, path)
        self._objects = objects
        self._remote = remote
        self._slots = slots
        self._completed = completed
        self._outdated = outdated
        self._discarded = discarded
        self._schedule = schedule
        self._attempts = Attempts(schedule)  # of a file that has to come out of one answer
        self._filler: Filler | None = None
        self._pace = pace
        self.has_slot = False
        """One is held for its next request."""
        self._asked: Asked | None = None
        self._parts: list[PartUnderWay] = []
        self._writing = trio.Lock()

    @property
    def validator(self) -> str | None:
        """The version's validator, as far as an answer has told."""
        return self._version.validator

    # -- life --------------------------------------------------------------------------------

    async def run(self, asked: Asked | None = None, failure: Exception | None = None) -> None:
        """Fetch what is missing and complete the object; never raises but when cancelled.

        Args:
            asked: what was asked for it.
            failure: what went wrong with what came.
        """
        error: MirrorError = OriginFailed(ENDING)
        keep, end = True, FillState.FAILED
        self._asked = asked
        try:
            try:
                if failure is not None:
                    raise failure
                await self._fill_whole()
            except BrokenPromise as exc:
                log.warning("%s; fetching it once more", exc)
                self._start_over()
                await self._fill_whole()
        except LapsedError:
            error, end = OriginFailed("nobody reads it any more"), FillState.LAPSED
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
            log.exception("%s: unexpected", self.path)
            error = OriginFailed(f"{self.path}: {exc!r}")
        finally:
            if self.state is not FillState.COMPLETE:
                self.error = error
                self._give_up(end, keep=keep)

    async def _fill_whole(self) -> None:
        """`_fill`, from the first byte again where what came cannot be continued and nobody has had it."""
        while True:
            try:
                await self._fill()
            except NotContinued:
                if self.served:
                    raise
                self._start_over()
            else:
                return

    async def _fill(self) -> None:
        while self._filler is not None or await self._take_lease():
            try:
                fd = await (self._fetch_small() if self._is_small() else self._fetch_parts())
            except TurnError:
                filler, self._filler = self._held(), None
                filler.close()
                self._enter(FillState.FOLLOWING)
                await trio.sleep(TURN)
            else:
                await self._finish(fd)
                return

    def _start_over(self) -> None:
        """Throw away what came, and what was learned from the answers that brought it."""
        filler, self._filler = self._held(), None
        self._present = Extents()
        self._version = Version(self.node, self.path)
        self._discarded(self.node)
        filler.discard()

    async def _take_lease(self) -> bool:
        """True once the object is ours to fill; False when it is complete."""
        pause = FIRST_FOLLOW_INTERVAL
        while True:
            try:
                filler = await self._objects.begin(self.node)
            except CacheFull:
                # Not even an empty file: others fill the disk as well. Nothing is to be written of what is
                # here already, though the index has no room to say so. Else one object's room is enough.
                if await self._is_here():
                    return False
                if not await self._objects.free(1):
                    raise
                filler = await self._objects.begin(self.node)
            if filler is not None:
                self.holds(filler)
                return True
            state = await self._objects.patiently(self._objects.state, self.node)
            if state.complete and await self._is_here():
                return False
            self._present = state.extents
            self._enter(FillState.FOLLOWING)
            await trio.sleep(pause)
            pause = min(2 * pause, FOLLOW_INTERVAL)

    async def _is_here(self) -> bool:
        """End with the object, if it is complete."""
        fd = await self._objects.patiently(self._objects.open_complete, self.node)
        if fd is None:
            return False
        self.found = True
        await self._finish(fd)
        return True

    # -- for `SmallFiles` --------------------------------------------------------------------

    @property
    def leased(self) -> bool:
        """Whether the lease is held."""
        return self._filler is not None

    @property
    def plain(self) -> bool:
        """Whether nothing is to be done but to ask for it: it is small, and the lease is held."""
        return self._filler is not None and self._is_small()

    def holds(self, filler: Filler) -> None:
        """The lease was taken."""
        self._filler = filler
        self._present = filler.present
        self._enter(FillState.FILLING)
        self._say_why(filler)

    async def takes(self, answer: Part, body: memoryview) -> bool:
        """Whether an answer and its body are of what is wanted, and there is room for them at once.

        Else whoever goes on with the answer finds out what is wrong.
        """
        size = len(body)
        filler, version = self._held(), self._version
        try:
            version.check(answer, filler)
            if size != version.size or (version.promise.strongest is not None and size > AT_ONCE):
                return False
            digest = await version.promise.check([body], size)
        except MirrorError:
            return False
        if not self._objects.allot(filler, size):
            return False
        self._last_words(filler, digest)
        self.fetched += size
        return True

    def storing(self, body: memoryview, *, wanted: bool) -> Job:
        """What is to be done with a body that was taken; ``wanted``: with a descriptor at the end."""
        return self._held().storing(body, wanted=wanted)

    async def stored(self, size: int, job: Job) -> None:
        """Complete it with what was done. Raises `CacheError`: `run` is to hear of it."""
        await self._finish(self._held().stored(size, job))

    def abandon(self) -> None:
        """End without it."""
        self.error = OriginFailed(ENDING)
        self._give_up(FillState.FAILED, keep=True)

    # -- the end -----------------------------------------------------------------------------

    async def _finish(self, fd: int | None) -> None:
        self._filler = None
        # The kernel learns of its backing file before any opener is answered.
        await self._completed(self.node, fd)
        self._enter(FillState.COMPLETE)

    def _give_up(self, end: FillState, *, keep: bool) -> None:
        filler, self._filler = self._filler, None
        try:
            if filler is not None:
                (filler.close if keep else filler.discard)()
        except CacheError as exc:
            log.warning("%s: what was fetched could not be put away: %s", self.path, exc)
        self._enter(end)

    def _held(self) -> Filler:
        assert self._filler is not None, "only called while the lease is held"
        return self._filler

    # -- fetching ----------------------------------------------------------------------------

    def _is_small(self) -> bool:
        return self._version.size is not None and self._version.size <= SMALL and not self._present.total

    async def _fetch_small(self) -> int:
        """One request, everything else in one go: most files are small, and every step costs."""
        chunks: list[Chunk] = []
        attempts = Attempts(self._schedule)
        while self._version.size:
            asked, self._asked = self._asked, None
            taken, self.has_slot = self.has_slot, False
            try:
                async with self._slots.hold(self.urgency, taken=taken):
                    attempts.asks()
                    asked_at = trio.current_time()
                    async with self._open(asked) as body:
                        self._pace.answered(trio.current_time() - asked_at)
                        self._version.check(body, self._held())
                        await self._make_room()
                        chunks = [chunk async for chunk in body]
                break
            except Transient as exc:
                await self._pause(attempts, exc)
        received = sum(len(chunk) for chunk in chunks)
        self.fetched += received
        if received != self._version.size:
            raise self._version.other_size(received)
        filler = self._held()
        digest = await self._version.promise.check(chunks, received)
        self._last_words(filler, digest)
        return await storing.store(self._objects, filler, chunks, received)

    def _open(self, asked: Asked | None) -> AbstractAsyncContextManager[Part]:
        if asked is not None:
            return asked.open()
        return self._remote.open_part(self.path, validator=self._version.validator)

    async def _fetch_parts(self) -> int:
        """Request parts until nothing is missing."""
        failures: list[Exception] = []
        until = trio.current_time() + IDLE
        hashing = Hashing(self._version.promise, self._held())
        async with trio.open_nursery() as nursery, trio.open_nursery() as watching:
            watching.start_soon(self._watch, nursery, failures)
            watching.start_soon(self._hash_ahead, hashing, failures)
            while (missing := self._missing()) and not failures:
                self._kick = trio.Event()
                over = not self._appetite.whole and trio.current_time() >= until
                part = None if over else self._next_part(missing)
                if part is not None:
                    self._parts.append(part)
                    # Tasks begin in any order, but what a reader waits for was decided on first.
                    slot = self._slots.hold(self.urgency).queue()
                    nursery.start_soon(self._fetch_part, part, slot, failures)
                elif self._parts or self._appetite.whole:
                    await self._kick.wait()
                elif over:
                    failures.append(TurnError() if self.urgency else LapsedError())
                else:
                    with trio.move_on_at(until):
                        await self._kick.wait()
            if failures:
                nursery.cancel_scope.cancel()
            watching.cancel_scope.cancel()
        if failures:
            raise failures[0]
        filler = self._held()
        self._last_words(filler, await hashing.check())
        return await trio.to_thread.run_sync(filler.complete)

    def _last_words(self, filler: Filler, digest: Digest | None) -> None:
        if digest is not None:
            filler.promise(str(digest))
        self._say_why(filler)  # somebody may have opened it since

    def _say_why(self, filler: Filler) -> None:
        why = self.urgency.begun_for
        filler.arrives(opened=why is Priority.DEMAND, wanted=why is Priority.WARM)

    def _missing(self) -> list[Range]:
        if self._version.size is None:
            return [(0, UNKNOWN)]
        return self._present.gaps(0, self._version.size)

    def _next_part(self, missing: list[Range]) -> PartUnderWay | None:
        """The next part to request now, or None: wait for those under way, or for a demand."""
        under_way = [(part.at, part.stop) for part in self._parts]
        if under_way and not self._version.ranged:
            return None  # the first answer, or the only one there is, decides
        pace = self._pace
        demands = self.urgency.demands()
        if len(under_way) >= pace.parts + (URGENT_PARTS if demands else 0):
            return None
        if not self._appetite.whole and self._version.size is not None:
            self._appetite.has(self._present.total, self._version.size)
            missing = self._appetite.wanted(missing, demands, self._cursor, pace.touch_size())
        cursor = self._cursor if len(under_way) < pace.parts else None
        left = sum(stop - start for start, stop in missing)
        chosen = next_part(missing, under_way, demands, cursor, pace.part_size(left))
        if chosen is None and cursor is not None and not pace.quick:
            ends = rests(self._parts, trio.current_time())
            chosen = shared(ends, pace.connection_rate, pace.delay())
        if chosen is None:
            return None
        if chosen.cut is not None:
            self._cut(self._parts[chosen.cut], chosen.start)
        # A file that is begun anew has got nowhere: its failures go on being counted.
        attempts = Attempts(self._schedule) if self._version.ranged else self._attempts
        return PartUnderWay(chosen.start, chosen.stop, attempts)

    def _cut(self, part: PartUnderWay, stop: int) -> None:
        """Let a part, and whoever fetches the same, end earlier."""
        for other in self._parts:
            if other is part or other.original is part or part.original is other:
                other.stop = min(other.stop, stop)

    async def _fetch_part(self, part: PartUnderWay, slot: Held, failures: list[Exception]) -> None:
        try:
            with part.scope:
                while True:
                    try:
                        async with slot:
                            part.attempts.asks()
                            await self._request(part)
                    except Transient as exc:
                        if part.original is not None:
                            break  # the original goes on
                        await self._pause(part.attempts, exc)
                    if part.at >= part.stop:
                        break
                    slot = self._slots.hold(self.urgency)
        except (MirrorError, CacheError) as exc:
            failures.append(exc)
        finally:
            self._parts.remove(part)
            self.hedges.ended(part, self._parts)
            self._kick.set()

    async def _hash_ahead(self, hashing: Hashing, failures: list[Exception]) -> None:
        """Hash what came while the rest does, unless there is a reader who would have to share the CPUs."""
        try:
            while True:
                if not (self.unread and await hashing.go_on()):
                    await trio.sleep(TICK)
        except CacheError as exc:
            failures.append(exc)
            self._kick.set()

    # -- parts that lag ----------------------------------------------------------------------

    async def _watch(self, nursery: trio.Nursery, failures: list[Exception]) -> None:
        """Write what a part has brought that brings no more, and ask for its rest once more."""
        while True:
            await trio.sleep(TICK)
            for part in list(self._parts):
                try:
                    if part.size and trio.current_time() - part.last_at > FLUSH_SECONDS:
                        await self._flush(part)
                except (MirrorError, CacheError) as exc:
                    failures.append(exc)
                    self._kick.set()
                    return
                if part in self._parts and (hedge := self._hedge(part)) is not None:
                    self._parts.append(hedge)
                    slot = self._slots.hold(self.urgency).queue()
                    nursery.start_soon(self._fetch_part, hedge, slot, failures)

    def _hedge(self, part: PartUnderWay) -> PartUnderWay | None:
        # Under a limit on the bytes a second of this process, it is the limit that everybody waits for.
        if not self._version.ranged or self._version.size is None or PROCESS.rate is not None:
            return None
        hedge = self.hedges.make(part, self._parts, self._version.size, self._pace, self._schedule)
        if hedge is not None:
            log.info("%s: bytes from %d on are slow to come, asked for once more", self.path, part.at)
        return hedge

    async def _pause(self, attempts: Attempts, failure: Transient) -> None:
        """Wait before the next try, or give up."""
        pause = attempts.failed(failure)
        if pause is None:
            raise OriginFailed(f"{self.path}: {failure}") from failure
        log.info("%s: %s; trying again in %.1f s", self.path, failure, pause)
        await trio.sleep(pause)

    async def _request(self, part: PartUnderWay) -> None:
        """Make one request for what is left of a part and write what comes."""
        if self._version.validator is None:
            self._version.refuse_to_join(self._present)
        everything = part.at == 0 and (self._version.size is None or part.stop >= self._version.size)
        stop = None if everything else part.stop
        part.asks(trio.current_time())
        try:
            async with self._remote.open_part(
                self.path, part.at, stop, validator=self._version.validator
            ) as body:
                self._pace.answered(trio.current_time() - part.last_at)
                await self._begin(body)
                if not self._version.ranged:
                    # The whole file has to come in one answer: this part is the only one from now on.
                    part.at, part.stop = 0, UNKNOWN if self._version.size is None else self._version.size
                    if body.start > 0 or body.stop not in (None, self._version.size):
                        return  # it does not: ask again, for everything
                    self._appetite.whole = True
                self._kick.set()
                await self._receive(body, part)
                if body.stop is None and self._version.size not in (None, part.at):
                    raise self._version.other_size(part.at)
        finally:
            part.asked_at = None
        if part.first_at is not None:
            self._pace.finished(part.came, part.last_at - part.first_at)
        if self._version.size is None:
            self._version.size = part.stop = part.at
            self._held().set_size(self._version.size)

    async def _begin(self, body: Part) -> None:
        """Check an answer, and note a validator that is new before anybody is given a byte.

        A version of the same size and time could not be told from this one otherwise.
        """
        validator = self._version.validator
        self._version.check(body, self._held())
        if self._version.validator is not None and self._version.validator != validator:
            known = await self._objects.learn(self.node, self._version.validator)
            if known != self._version.validator:
                raise self._version.changed()
        await self._make_room()

    async def _make_room(self) -> None:
        """Reserve room for all of a file, now that the origin answers: else nothing is evicted for it.

        Raises:
            CacheFull: it will not fit.
        """
        if self._version.size is not None and self._appetite.whole:
            await self._objects.reserve(self._held(), self._version.size)

    async def _receive(self, body: Part, part: PartUnderWay) -> None:
        """Write the body as it comes, up to where another part was given the rest."""
        try:
            async for chunk in body:
                now = trio.current_time()
                part.takes(chunk, now)
                if part.original is not None:
                    self.hedges.won(part, self._parts)
                self._pace.received(len(chunk), self._slots.held, now)
                late = now - part.flushed_at > FLUSH_SECONDS
                if late or part.size >= FLUSH or part.reached >= part.stop:
                    part.flushed_at = now
                    await self._flush(part)
                    if part.at >= part.stop and body.stop not in (None, part.stop):
                        return
        except Transient:
            # What came before the break is good: the next try continues behind it.
            await self._flush(part)
            raise
        await self._flush(part)

    async def _flush(self, part: PartUnderWay) -> None:
        """Write what a part has brought."""
        # One at a time: a file system lets nobody else write to the same file anyway.
        async with self._writing:
            if part.at + part.size > part.stop == self._version.size:
                raise self._version.other_size(part.at + part.size)
            chunks, size = part.handed_over()
            if not size:
                return
            filler = self._held()
            had = filler.present.total
            part.writing = size
            try:
                await storing.write(self._objects, filler, part.at, chunks, size)
                part.at += size
            finally:
                part.writing = 0
            new = filler.present.total > had
        self.fetched += size
        if new:
            # An origin without ranges that breaks off again and again only sends the same bytes anew.
            (part.attempts.moved if self._version.validator is None else part.attempts.progressed)()
        self._wake()
