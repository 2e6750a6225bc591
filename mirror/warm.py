"""Fetching ahead of use: everything that matches, into the cache, mounted or not.

One process lists and fetches (:mod:`mirror.fetching`), and others help it (:mod:`mirror.crew`) once there is
more to do than it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from cache.patterns import Patterns
from mirror.background import background
from mirror.budget import Budget, apply_limits
from mirror.crew import Crew, Helper, left_for_caller
from mirror.engine import Engine, open_engine
from mirror.fetching import Progress, Run, Summary
from mirror.selection import read_patterns
from mirror.traffic import Traffic

__all__ = ["REPORT_INTERVAL", "Progress", "Summary", "fetch", "warm"]

REPORT_INTERVAL = 0.1
"""Seconds between two reports of progress."""


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
        ask: list folders that are not fresh; False: only those never listed.
        helpers: other processes that may be called to share the work.

    Raises:
        MirrorError: the origin stopped answering in the middle.
        cache.CacheError: the index failed.
    """
    fetcher = engine.fetcher
    budget = await Budget.of(engine.cache, engine.namespace.root.id)
    async with background() as nursery:
        crew = Crew(helpers, nursery)

        connections, processes = fetcher.connections, len(helpers) + 1

        def shared(helping: int) -> None:
            # One connection is for listings.
            left = left_for_caller(connections, processes, helping)
            left = max(1, left - 1) if helping else left
            fetcher.limit(left)
            run.limit(min(left, left_for_caller(jobs, processes, helping)))

        def failed(node: int, path: str, why: str, origin: bool) -> None:
            run.could_not(node, path, why, origin=origin)

        run = Run(engine, patterns, budget, jobs, partial(crew.call, failed, shared) if helpers else None)
        summary = run.summary

        def count() -> None:
            # What a helper had fetched that died a moment later, others have fetched once more.
            summary.files_fetched = min(run.fetched + crew.fetched, summary.files_done)
            summary.bytes_fetched = fetcher.bytes_fetched + crew.came
            summary.bytes_under_way = fetcher.bytes_under_way + crew.under_way

        async def report_now_and_then() -> None:
            while True:
                await trio.sleep(REPORT_INTERVAL)
                count()
                report(summary)

        nursery.start_soon(report_now_and_then)
        await run.everything(ask=ask)
        if summary.refused is None:
            await crew.end()
        count()
    return summary
