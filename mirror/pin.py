"""Pinning: what is kept whatever happens, fetched at once.

A pin that cannot be kept is no use. So the files that match are listed and summed up first, together
with all that is pinned already, and only what fits the limits is recorded. From then on it is a warming
run: stopped, it goes on where it was, for the pins stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from cache.patterns import Patterns
from mirror.background import background, together
from mirror.budget import Budget
from mirror.crew import Helper
from mirror.engine import Engine, open_engine
from mirror.errors import DoesNotFit, MirrorError
from mirror.selection import File, read_patterns, walk
from mirror.traffic import Traffic
from mirror.warm import REPORT_INTERVAL, Progress, Summary, fetch


async def pin(
    source: str,
    patterns: Sequence[str],
    cache_folder: Path,
    *,
    jobs: int,
    deadline: float,
    fetching: bool,
    report: Callable[[Progress], None],
    recorded: Callable[[], None] = lambda: None,
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
    helpers: Sequence[Helper] = (),
) -> Summary:
    """Pin the files of ``source`` that match, now and later, and fetch those that are there.

    Args:
        source: the source URL.
        patterns: globs on the path below the source.
        cache_folder: the cache.
        jobs: files asked about or fetched at once.
        deadline: seconds without a byte after which a request counts as stalled.
        fetching: False: only record the pins.
        report: called with the progress now and then, and once at the end.
        recorded: called once the pins will stay.
        traffic: how much may be asked of the network.
        helpers: other processes that may be called to share the fetching.

    Returns:
        What was fetched; without ``fetching``, what there is to fetch. `Summary.refused`: it does not fit,
        and nothing was pinned.

    Raises:
        UsageError: the source or a pattern cannot mean anything.
        MirrorError: the source's root can neither be listed nor is it cached, or the origin
            stopped answering in the middle.
        cache.CacheError: the cache cannot be used.
    """
    wanted = read_patterns(patterns)
    started = trio.current_time()
    began = time.time()
    async with open_engine(
        source, cache_folder, ttl=0.0, since=began, deadline=deadline, traffic=traffic
    ) as engine:
        await engine.namespace.check_source()
        listing = _Listing(engine, wanted, report)
        async with background() as nursery:
            nursery.start_soon(listing.report_now_and_then)
            await listing.run(jobs)
        summary = listing.summary
        if summary.refused is None:
            await engine.cache.pins.add(engine.namespace.root.id, patterns)
            recorded()
            if fetching:
                failures, summary = (
                    summary.failures,
                    await fetch(engine, wanted, jobs=jobs, report=report, ask=False, helpers=helpers),
                )
                summary.failures[:0] = [each for each in failures if each not in summary.failures]
                summary.failed = len(summary.failures)
    summary.elapsed = trio.current_time() - started
    report(summary)
    return summary


class _Listing:
    """Lists what matches, asks for the sizes that listings do not give, and sums up."""

    def __init__(self, engine: Engine, patterns: Patterns, report: Callable[[Progress], None]) -> None:
        self.summary = Summary()
        self._engine = engine
        self._patterns = patterns
        self._report = report

    async def report_now_and_then(self) -> None:
        while True:
            await trio.sleep(REPORT_INTERVAL)
            self._report(self.summary)

    async def run(self, jobs: int) -> None:
        budget = await Budget.of(self._engine.cache, self._engine.namespace.root.id)
        send, receive = trio.open_memory_channel[File](jobs)

        async with together() as nursery:

            def count(path: str, size: int) -> None:
                self.summary.bytes_total += size
                try:
                    budget.add(path, size)
                except DoesNotFit as exc:
                    self.summary.refused = str(exc)
                    nursery.cancel_scope.cancel()

            async def ask(mine: trio.MemoryReceiveChannel[File]) -> None:
                async with mine:
                    async for path, node in mine:
                        try:
                            node = await self._engine.namespace.fresh(node)  # noqa: PLW2901 - the same, with more known
                        except MirrorError as exc:
                            self._failed(path, exc)
                        else:
                            count(path, node.size or 0)

            async def found(files: Sequence[File]) -> None:
                for path, node in files:
                    self.summary.files_total += 1
                    if node.size is None:
                        await send.send((path, node))
                    else:
                        count(path, node.size)
                await trio.lowlevel.checkpoint()

            for _ in range(jobs):
                nursery.start_soon(ask, receive.clone())
            receive.close()
            async with send:
                await walk(self._engine.namespace, self._patterns, found, self._failed)
        if self.summary.refused is None:
            self.summary.listing = False

    def _failed(self, path: str, why: MirrorError) -> None:
        self.summary.failed += 1
        self.summary.failures.append((path, str(why)))
