"""One process's part in fetching all that matches: listed, and fetched ahead of use.

The tree is listed and fetched at the same time: one task lists folder after folder and hands
matching files to a fixed number of fetching tasks over a short channel, so memory does not grow
with the tree; a large folder is gone through while its names come. What is complete already costs one look
into the index for a page of names; an interrupted run goes on where its parts ended.

Others may fetch the same at the same time: each fetches its share (:mod:`mirror.shares`), and all of them
together are about as fast as one with as many jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import trio

from cache import Node
from cache.patterns import Patterns
from mirror.background import background
from mirror.budget import Budget
from mirror.engine import Engine
from mirror.errors import DoesNotFit, MirrorError, NoSpace, OriginFailed, Stalled
from mirror.fetch import Fill, Lane, Priority
from mirror.selection import File, walk
from mirror.shares import Shares, Stretch

GIVE_UP_AFTER = 10
"""Files in a row that failed because the origin does not answer: the rest would fail too."""
MUCH = 128
"""Files of one page that are missing, from which on others are called at once: with fewer, one process may
have done before they have begun."""
PUT_OFF = 1024
"""Files of other processes that are put off at most; then some of them are waited for."""
FIRST_LOOK = 0.005
LONGEST_LOOK = 0.1
"""Seconds between the first two looks at what others have, from where on they double, and at most."""
LOOKS = 0.05
"""Of the time is spent on such looks at most: where they take a moment, what others end is seen at once."""

GLANCE_INTERVAL = 0.5
"""Seconds between two such looks while there is something to fetch here."""

Load = tuple[Sequence[File], Stretch]
"""Files of one stretch for one job, which fetches them one after the other."""
Send = trio.MemorySendChannel[Load]
Receive = trio.MemoryReceiveChannel[Load]


@dataclass(slots=True)
class Progress:
    """How far a run is. Totals grow while `listing` is True."""

    files_done: int = 0
    """Files that are complete in the cache."""
    files_total: int = 0
    """Files that match, as far as they are known."""
    bytes_done: int = 0
    bytes_total: int = 0
    files_fetched: int = 0
    """Files that were not complete before this run."""
    bytes_under_way: int = 0
    """Bytes fetched of files that are not complete yet."""
    bytes_fetched: int = 0
    """Bytes that came over the network in this run."""
    failed: int = 0
    listing: bool = True


@dataclass(slots=True)
class Summary(Progress):
    """The end of a run."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file or folder that could not be had."""
    elapsed: float = 0.0
    """Seconds."""
    refused: str | None = None
    """Why the run was not made, or was ended: the cache may not hold what matches."""

    @property
    def ok(self) -> bool:
        """Everything that matches is in the cache."""
        return not self.failed and not self.listing and self.refused is None


class Run:
    """One run of one process."""

    def __init__(
        self,
        engine: Engine,
        patterns: Patterns,
        budget: Budget,
        jobs: int,
        share: Callable[[], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            engine: source and cache.
            patterns: which files.
            budget: what the cache may hold.
            jobs: files fetched at once.
            share: called at most once, when there is much to do, or more than all jobs take, and nobody else
                is seen to do it: whoever helps begins then.
        """
        self.summary = Summary()
        """Of all files, whoever fetches them. What came over the network is for the caller to count."""
        self.fetched = 0
        """Files that this process has fetched."""
        self.failed: Callable[[Node, str, MirrorError, bool], None] = lambda *_: None
        """Told of each file that could not be had: node, path, why, and whether the origin failed."""
        self._engine = engine
        self._patterns = patterns
        self._budget = budget
        # What is taken beyond that would be kept from others.
        self._most = self._jobs = min(jobs, engine.fetcher.connections)
        self._more_jobs = trio.Event()
        self._share = share
        self._shared = False
        self._received = trio.Event()
        """A job has received something."""
        self._shares = Shares(engine.cache)
        self._handed_out = 0
        """Files that the jobs have, or that wait for one."""
        self._idle = trio.Event()
        """There is none."""
        self._over = False
        """Nothing more will be handed out."""
        self._failures_in_a_row = 0
        self._gave_up: MirrorError | None = None
        self._scope = trio.CancelScope()

    async def everything(self, *, ask: bool = True) -> None:
        """Fetch what matches and is missing; what came is safe on disk on return.

        Args:
            ask: list folders that are not fresh; False: only those never listed.

        Raises:
            MirrorError: the origin stopped answering in the middle.
            cache.CacheError: the index failed.
        """
        pins, source = self._engine.cache.pins, self._engine.namespace.root.id
        try:
            async with pins.sparing(source, self._patterns), background() as nursery:
                nursery.start_soon(self._look_now_and_then)
                await self._list_and_fetch(ask)
                await self._engine.cache.objects.sync()
        finally:
            self._shares.give_back_all()
        if self._gave_up is not None:
            raise self._gave_up

    def limit(self, jobs: int) -> None:
        """Fetch so many files at once from now on; not more than at first."""
        self._jobs = self._most if self._over else jobs
        self._more_jobs.set()
        self._more_jobs = trio.Event()

    def could_not(self, node: int, path: str, why: str, *, origin: bool) -> None:
        """Note that a file could not be had, here or by a helper: it is not tried again.

        ``origin``: it is that which failed.
        """
        if not self._shares.forget(node):
            return
        self.summary.failed += 1
        self.summary.failures.append((path, why))
        self._failures_in_a_row = self._failures_in_a_row + 1 if origin else 0
        if self._failures_in_a_row >= GIVE_UP_AFTER:
            self._gave_up = OriginFailed(f"{why}; gave up after {GIVE_UP_AFTER} files in a row")
            self._scope.cancel()

    async def _look_now_and_then(self) -> None:
        """Let others have what they may believe the index about, and see what they have done."""
        while True:
            await trio.sleep(GLANCE_INTERVAL)
            self._shares.give_back()
            self._count(self._shares.settle())

    async def _list_and_fetch(self, ask: bool) -> None:
        send, receive = trio.open_memory_channel[Load](self._jobs)
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._list_all, send, ask)
                for number in range(self._jobs):
                    nursery.start_soon(self._fetch_all, number, receive.clone())
                receive.close()

    # -- listing -----------------------------------------------------------------------------

    async def _list_all(self, send: Send, ask: bool) -> None:
        async def found(files: Sequence[File]) -> None:
            for path, node in files:
                self.summary.files_total += 1
                if node.size is not None:
                    self._known(path, node.size)
            complete, missing = self._shares.look(files)
            self._count(complete)
            await trio.lowlevel.checkpoint()
            for stretch in self._shares.take(missing):
                # Not before: whether others fetch the same shows by what they have taken.
                if len(missing) >= MUCH:
                    self._call_others()
                await self._hand_out(stretch, send, len(missing))
            await self._catch_up(send, PUT_OFF)

        async with send:
            try:
                await walk(self._engine.namespace, self._patterns, found, self._failed, ask=ask)
            except OriginFailed as exc:
                self._gave_up = exc
                self._scope.cancel()
                return
            self.summary.listing = False
            while self._handed_out or self._shares.put_off:
                await self._catch_up(send, 0)
                # Some of it may turn out to be others' in the last moment.
                while self._handed_out:
                    await self._idle.wait()
            self._over = True
            self.limit(self._most)

    async def _hand_out(self, stretch: Stretch, send: Send, at_hand: int) -> None:
        """Give the jobs a stretch, where there are so many files in all to be given to them."""
        for files in self._loads(stretch, at_hand):
            self._handed_out += len(files)
            try:
                send.send_nowait((files, stretch))
            except trio.WouldBlock:
                self._call_others()
                await send.send((files, stretch))
        # What waits for a job here is kept from others, who may have nothing left to do.
        while (self._shared or self._shares.others) and send.statistics().current_buffer_used:
            await self._received.wait()

    def _call_others(self) -> None:
        """Have those begin who help, unless somebody does already."""
        share = None if self._shares.others else self._share
        if share is not None:
            self._share, self._shared = None, True
            share()

    def _loads(self, stretch: Stretch, at_hand: int) -> Iterator[Sequence[File]]:
        """Cut a stretch so that every job has something to do, and as much of it as it can be given."""
        files = stretch.files
        known = self._engine.fetcher.bulk and all(node.size is not None for _, node in files)
        most = max(1, at_hand // self._jobs) if known else 1
        return (files[at : at + most] for at in range(0, len(files), most))

    async def _catch_up(self, send: Send, most: int) -> None:
        """Return once no more than so many files are put off: others have fetched the rest, or we do."""
        pause, synced = FIRST_LOOK, False
        while self._shares.put_off > most:
            looked_at = trio.current_time()
            complete = self._shares.settle()
            longest = min(LONGEST_LOOK, max(FIRST_LOOK, (trio.current_time() - looked_at) / LOOKS))
            self._count(complete)
            stretches = self._shares.take_again()
            if not complete and not stretches and (helped := self._shares.to_help_with()) is not None:
                stretches = [helped]
            at_hand = sum(len(stretch.files) for stretch in stretches)
            for stretch in stretches:
                await self._hand_out(stretch, send, at_hand)
            if complete or stretches:
                pause, synced = FIRST_LOOK, False
            elif not synced and not self._handed_out:
                # They may wait for what was fetched here.
                await self._engine.cache.objects.sync()
                self._shares.give_back()
                synced = True
            else:
                await self._rest(pause)
                pause = min(2 * pause, longest)

    async def _rest(self, seconds: float) -> None:
        """Let others do something; no longer than our own jobs do."""
        if self._handed_out:
            with trio.move_on_after(seconds):
                await self._idle.wait()
        else:
            await trio.sleep(seconds)

    def _known(self, path: str, size: int) -> None:
        """Count what a file takes."""
        self.summary.bytes_total += size
        try:
            self._budget.add(path, size)
        except DoesNotFit as exc:
            self._refuse(exc)

    def _count(self, complete: Sequence[tuple[File, int]]) -> None:
        """Count files that others have fetched, or that were here before; with their sizes."""
        for (path, node), size in complete:
            if node.size is None:
                self._known(path, size)
            self.summary.files_done += 1
            self.summary.bytes_done += size

    # -- fetching ----------------------------------------------------------------------------

    async def _fetch_all(self, number: int, receive: Receive) -> None:
        """What one of the jobs does."""
        async with receive:
            while True:
                while number >= self._jobs:
                    await self._more_jobs.wait()
                try:
                    files, stretch = await receive.receive()
                except trio.EndOfChannel:
                    return
                self._received.set()
                self._received = trio.Event()
                for path, node, fill in self._begun(files):
                    stretch.ended(node, here=await self._fetch_one(path, node, fill))
                    self._handed_out -= 1
                if not self._handed_out:
                    self._idle.set()
                    self._idle = trio.Event()

    def _begun(self, files: Sequence[File]) -> Sequence[tuple[str, Node, Fill | None]]:
        """Begin with all files of a load, if it is several, for the fetcher does more of them in one go."""
        if len(files) == 1:
            return [(path, node, None) for path, node in files]
        lane, start = Lane(), self._engine.fetcher.start
        return [(path, node, start(node, Priority.WARM, path, lane)) for path, node in files]

    async def _fetch_one(self, path: str, node: Node, fill: Fill | None) -> bool:
        """Whether it was fetched here, and as this node."""
        try:
            fetched = await self._fetch(path, node, fill)
        except NoSpace as exc:
            # The others would find no room either, or take it from what this run has fetched.
            hint = "name fewer files by narrower patterns, or allow more by --cache-size"
            self._refuse(NoSpace(f"{exc}: {hint}"))
        except MirrorError as exc:
            origin = isinstance(exc, OriginFailed | Stalled)
            self.failed(node, path, exc, origin)
            self.could_not(node.id, path, str(exc), origin=origin)
        else:
            self._failures_in_a_row = 0
            return fetched
        return False

    async def _fetch(self, path: str, listed: Node, fill: Fill | None) -> bool:
        fetcher, node = self._engine.fetcher, listed
        if node.size is None:
            # It takes a connection as a fetch does, and there are not more than were shared out.
            async with fetcher.connection(Priority.WARM):
                node = await self._engine.namespace.fresh(node)
            self._known(path, node.size or 0)
        fill = fill or fetcher.start(node, Priority.WARM, path)
        await fill.whole(Priority.WARM)
        if fill.found and not self._engine.cache.objects.complete_of([node.id]):
            # Whoever completed it may die before it is safe: it is to be had once the index says so.
            self._shares.wait_for((path, node))
            return False
        self.fetched += not fill.found
        self.summary.files_done += 1
        self.summary.bytes_done += node.size or 0
        return node is listed or node.id == listed.id

    def _refuse(self, why: MirrorError) -> None:
        self.summary.refused = str(why)
        self._scope.cancel()

    def _failed(self, path: str, why: MirrorError) -> None:
        root = self._engine.namespace.root.id
        if path == "/" and not self._engine.namespace.children(root, limit=1):
            # There is nothing to go on with.
            self._gave_up = why
            self._scope.cancel()
            return
        self.summary.failed += 1
        self.summary.failures.append((path, str(why)))
