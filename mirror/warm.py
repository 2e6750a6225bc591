"""Fetching ahead of use: everything that matches, into the cache, mounted or not.

The tree is listed and fetched at the same time: one task lists folder after folder and hands
matching files to a fixed number of fetching tasks over a short channel, so memory does not grow
with the tree. What is complete already costs one look into the index for a page of names; an interrupted run
goes on where its parts ended.

Others may warm the same at the same time: each fetches its share (:mod:`mirror.shares`), and all of them
together are about as fast as one with as many jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from cache import Node
from cache.patterns import Patterns
from mirror.background import background, together
from mirror.budget import Budget, apply_limits
from mirror.crew import Hands, Helper, HelperGone, Own, left_for_caller
from mirror.engine import Engine, open_engine
from mirror.errors import DoesNotFit, MirrorError, NoSpace, OriginFailed, Stalled
from mirror.selection import File, read_patterns, walk
from mirror.shares import Shares, Stretch
from mirror.traffic import Traffic

log = logging.getLogger(__name__)

T = TypeVar("T")

REPORT_INTERVAL = 0.1
"""Seconds between two reports of progress."""
GIVE_UP_AFTER = 10
"""Files in a row that failed because the origin does not answer: the rest would fail too."""
PUT_OFF = 1024
"""Files of other processes that are put off at most; then some of them are waited for."""
FIRST_LOOK = 0.005
LONGEST_LOOK = 0.1
"""Seconds between the first two looks at what others have, from where on they double, and at most."""

Send = trio.MemorySendChannel[tuple[File, Stretch]]
Receive = trio.MemoryReceiveChannel[tuple[File, Stretch]]


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


async def warm(
    source: str,
    patterns: Sequence[str],
    cache_folder: Path,
    *,
    jobs: int,
    deadline: float,
    report: Callable[[Progress], None],
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
    cache_size: str | None = None,
    min_free: str | None = None,
    helpers: Sequence[Helper] = (),
) -> Summary:
    """Fetch every file of ``source`` that matches one of ``patterns`` (none: all of them).

    Args:
        source: the source URL.
        patterns: globs on the path below the source, as :mod:`cache.patterns` defines them.
        cache_folder: the cache to fill.
        jobs: files fetched at once.
        deadline: seconds without a byte after which a request counts as stalled.
        report: called with the progress now and then, and once at the end.
        traffic: how much may be asked of the network.
        cache_size: a limit to set first, as `mirror.budget.apply_limits` takes it.
        min_free: the same.
        helpers: other processes that may be called to share the work.

    Raises:
        UsageError: the source or a pattern cannot mean anything.
        DoesNotFit: more is pinned than the new limits allow.
        MirrorError: the source's root can neither be listed nor is it cached, or the origin
            stopped answering in the middle.
        cache.CacheError: the cache cannot be used.
    """
    wanted = read_patterns(patterns)
    started = trio.current_time()
    # Every folder is listed anew, once, by one of those who warm: they are asked to have what is there now.
    began = time.time()
    async with open_engine(
        source, cache_folder, ttl=0.0, since=began, deadline=deadline, traffic=traffic
    ) as engine:
        await apply_limits(engine.cache, cache_size, min_free)
        await engine.cache.objects.shrink()
        await engine.namespace.check_source()
        summary = await fetch(engine, wanted, jobs=jobs, report=report, helpers=helpers)
    summary.elapsed = trio.current_time() - started
    report(summary)
    return summary


async def fetch(
    engine: Engine,
    patterns: Patterns,
    *,
    jobs: int,
    report: Callable[[Progress], None],
    ask: bool = True,
    helpers: Sequence[Helper] = (),
) -> Summary:
    """Fetch what matches, as far as the cache may hold it; what came is safe on disk on return.

    Args:
        engine: source and cache.
        patterns: which files.
        jobs: files fetched at once.
        report: called with the progress now and then.
        ask: list every folder anew; False: it was done a moment ago.
        helpers: other processes that may be called to share the work.

    Raises:
        MirrorError: the origin stopped answering in the middle.
        cache.CacheError: the index failed.
    """
    source = engine.namespace.root.id
    run = _Run(engine, patterns, report, await Budget.of(engine.cache, source))
    try:
        async with engine.cache.pins.sparing(source, patterns):
            async with background() as nursery:
                nursery.start_soon(run.now_and_then)
                await run.everything(jobs, helpers, ask=ask)
                if run.lost:
                    log.warning("what they had fetched need not be safe: all files are looked at once more")
                    run.start_over(await Budget.of(engine.cache, source))
                    await run.everything(jobs, (), ask=False)
                    # Some were fetched twice.
                    run.summary.files_fetched = min(run.summary.files_fetched, run.summary.files_done)
            await engine.cache.objects.sync()
    finally:
        run.end()
    run.count_bytes()
    return run.summary


class _Run:
    """One run's own state."""

    def __init__(
        self, engine: Engine, patterns: Patterns, report: Callable[[Progress], None], budget: Budget
    ) -> None:
        self.summary = Summary()
        self._engine = engine
        self._budget = budget
        self._patterns = patterns
        self._report = report
        self._shares = Shares(engine.cache)
        self._failures_in_a_row = 0
        self._own = Own(engine)
        self._hands: list[Hands] = [self._own]
        self._called: list[Helper] = []

    async def now_and_then(self) -> None:
        """Report, and let others have what they may believe the index about."""
        while True:
            await trio.sleep(REPORT_INTERVAL)
            self.count_bytes()
            self._report(self.summary)
            self._shares.give_back()

    def count_bytes(self) -> None:
        """Put into the summary what has come so far, whoever fetched it."""
        fetcher = self._engine.fetcher
        self.summary.bytes_fetched = fetcher.bytes_fetched + sum(helper.came for helper in self._called)
        under_way = sum(helper.under_way for helper in self._called)
        self.summary.bytes_under_way = fetcher.bytes_under_way + under_way

    async def everything(self, jobs: int, helpers: Sequence[Helper], *, ask: bool) -> None:
        send, receive = trio.open_memory_channel[tuple[File, Stretch]](jobs)
        gave_up: list[MirrorError] = []
        async with background() as calls:
            async with trio.open_nursery() as nursery:
                call = partial(self._call, helpers, calls)
                nursery.start_soon(self._list_all, send, ask, call, nursery.cancel_scope)
                for number in range(jobs):
                    nursery.start_soon(
                        self._fetch_all, number, receive.clone(), nursery.cancel_scope, gave_up
                    )
                receive.close()
            if gave_up:
                raise gave_up[0]
            if helpers and self.summary.refused is None:
                async with together() as nursery:
                    for helper in self._called:
                        nursery.start_soon(helper.end)

    @property
    def lost(self) -> bool:
        """A helper ended before it had said that what it had fetched is safe on disk."""
        return self.summary.refused is None and not all(helper.safe for helper in self._called)

    def start_over(self, budget: Budget) -> None:
        """Forget what was counted, but not what was fetched; all that follows is done by these hands."""
        done = self.summary
        self.summary = Summary(files_fetched=done.files_fetched)
        self._budget = budget
        self._failures_in_a_row = 0
        self._hands = [self._own]
        self.end()
        self._shares = Shares(self._engine.cache)

    def end(self) -> None:
        """All that was this run's to fetch may be another's."""
        self._shares.give_back_all()

    def _call(self, helpers: Sequence[Helper], calls: trio.Nursery) -> None:
        """Share what there is to do from now on with all helpers."""
        for helper in helpers:
            calls.start_soon(helper.serve, self._engine.namespace)
            self._called.append(helper)
            self._hands.append(helper)
        self._engine.fetcher.limit(left_for_caller(self._engine.fetcher.connections, len(helpers)))

    async def _list_all(
        self, send: Send, ask: bool, call: Callable[[], None], scope: trio.CancelScope
    ) -> None:
        async def found(files: Sequence[File]) -> None:
            for path, node in files:
                self.summary.files_total += 1
                self.summary.bytes_total += node.size or 0
                if node.size is not None:
                    self._budget.add(path, node.size)
            missing = self._shares.missing(files)
            self._count_as_done(len(files) - len(missing), _bytes(files) - _bytes(missing))
            await trio.lowlevel.checkpoint()
            for stretch in self._shares.take(missing):
                await self._hand_out(stretch, send, call)
            await self._catch_up(send, call, PUT_OFF)

        async with send:
            try:
                await walk(self._engine.namespace, self._patterns, found, self._failed, ask=ask)
            except DoesNotFit as exc:
                self._refuse(exc, scope)
                return
            self.summary.listing = False
            await self._catch_up(send, call, 0)

    async def _hand_out(self, stretch: Stretch, send: Send, call: Callable[[], None]) -> None:
        for file in stretch.files:
            try:
                send.send_nowait((file, stretch))
            except trio.WouldBlock:
                # All have something to do, and nobody else fetches the same.
                if not self._called and not self._shares.others:
                    call()
                await send.send((file, stretch))

    async def _catch_up(self, send: Send, call: Callable[[], None], most: int) -> None:
        """Return once no more than so many files are put off: others have fetched the rest, or we do."""
        pause, synced = FIRST_LOOK, False
        while self._shares.put_off > most:
            complete, taken = self._shares.take_again()
            self._count_as_done(len(complete), _bytes(complete))
            helped = None if complete or taken else self._shares.to_help_with()
            for stretch in taken if helped is None else [helped]:
                await self._hand_out(stretch, send, call)
            if complete or taken or helped is not None:
                pause, synced = FIRST_LOOK, False
            elif not synced and not self._shares.under_way:
                # They may wait for what was fetched here.
                await self._engine.cache.objects.sync()
                self._shares.give_back()
                synced = True
            else:
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_LOOK)

    def _count_as_done(self, files: int, size: int) -> None:
        self.summary.files_done += files
        self.summary.bytes_done += size

    def _refuse(self, why: MirrorError, scope: trio.CancelScope) -> None:
        self.summary.refused = str(why)
        scope.cancel()

    async def _fetch_all(
        self, number: int, receive: Receive, scope: trio.CancelScope, gave_up: list[MirrorError]
    ) -> None:
        """What one of the jobs does; ``number`` says whose hands it is."""
        async with receive:
            async for (path, node), stretch in receive:
                fetched = await self._fetch_one(number, path, node, scope, gave_up)
                stretch.ended(node, failed=not fetched)

    async def _fetch_one(
        self, number: int, path: str, listed: Node, scope: trio.CancelScope, gave_up: list[MirrorError]
    ) -> bool:
        """Whether it was fetched."""
        try:
            await self._fetch(number, path, listed)
        except DoesNotFit as exc:
            self._refuse(exc, scope)
        except NoSpace as exc:
            # The others would find no room either, or take it from what this run has fetched.
            self._refuse(
                NoSpace(f"{exc}: name fewer files by narrower patterns, or allow more by --cache-size"), scope
            )
        except MirrorError as exc:
            self._failed(path, exc)
            origin = isinstance(exc, OriginFailed | Stalled)
            self._failures_in_a_row = self._failures_in_a_row + 1 if origin else 0
            if self._failures_in_a_row >= GIVE_UP_AFTER:
                gave_up.append(OriginFailed(f"{exc}; gave up after {GIVE_UP_AFTER} files in a row"))
                scope.cancel()
        else:
            self._failures_in_a_row = 0
            return True
        return False

    async def _fetch(self, number: int, path: str, listed: Node) -> None:
        node = listed
        if node.size is None:
            node = await self._by(number, lambda hands: hands.fresh(listed))
            self.summary.bytes_total += node.size or 0
            self._budget.add(path, node.size or 0)
        fetched = await self._by(number, lambda hands: hands.fetch(path, node))
        self.summary.files_fetched += fetched
        self._count_as_done(1, node.size or 0)

    async def _by(self, number: int, act: Callable[[Hands], Awaitable[T]]) -> T:
        """Have something done by the hands whose turn it is; by the next ones where those are gone."""
        while True:
            hands = self._hands[number % len(self._hands)]
            try:
                return await act(hands)
            except HelperGone:
                if hands in self._hands:
                    self._hands.remove(hands)
                    log.warning("a process that helped has ended: the others go on without it")

    def _failed(self, path: str, why: MirrorError) -> None:
        self.summary.failed += 1
        self.summary.failures.append((path, str(why)))


def _bytes(files: Sequence[File]) -> int:
    return sum(node.size or 0 for _, node in files)
