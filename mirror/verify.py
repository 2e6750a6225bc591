"""Reading what is cached again: everything of a source, or what matches, mounted or not.

What the disk has is compared with the checksums of what came from the origin (`cache.Verification`). A
bad object is removed, and fetched again where the origin answers. The scrub of a mount is the same,
one object after the other, for as long as the mount lives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from cache import Cache, CacheError, Finding, Node, State
from cache.patterns import Patterns
from mirror.engine import Engine, open_source
from mirror.errors import MirrorError
from mirror.fetch import Priority
from mirror.limits import raise_descriptor_limit
from mirror.traffic import Traffic

log = logging.getLogger(__name__)

PAGE = 256
"""Objects taken from the index at a time."""
IDLE_SECONDS = 60.0
"""How often a scrub with nothing to do looks again."""
SCRUB_RATE = 16 * 1024 * 1024
"""Bytes a second: a disk that others use hardly notices, and it is a terabyte in 18 hours."""


@dataclass(slots=True)
class Damage:
    """One object that was not what had come."""

    source: str
    path: str
    ranges: list[tuple[int, int]]
    """Byte ranges, half-open; empty: the whole file."""
    refetched: bool = False
    reason: str | None = None
    """Why it was not fetched again; None: it was."""


@dataclass(slots=True)
class Summary:
    """How far a run is, and its end."""

    objects_total: int = 0
    bytes_total: int = 0
    objects_done: int = 0
    bytes_done: int = 0
    good: int = 0
    bad: int = 0
    unknown: int = 0
    """Objects without checksums."""
    failed: int = 0
    """Objects that could not be read or removed."""
    refetched: int = 0
    damage: list[Damage] = field(default_factory=list)
    unchecked: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of what could not be checked."""
    elapsed: float = 0.0
    """Seconds."""

    @property
    def exit_code(self) -> int:
        """0: all is good; 1: something was bad; 2: nothing was, but not all could be checked."""
        return 1 if self.bad else 2 if self.unknown or self.failed else 0


class Rate:
    """Waits so that no more than so many bytes a second are read; 0: no limit."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = trio.current_time()

    async def __call__(self, size: int) -> None:
        """Wait until ``size`` bytes more may be read."""
        if self._rate:
            self._free_at = max(self._free_at, trio.current_time()) + size / self._rate
            await trio.sleep_until(self._free_at)


async def verify(
    source: str | None,
    patterns: Sequence[str],
    cache_folder: Path,
    *,
    rate: float = 0.0,
    deadline: float = 30.0,
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
    refetch: bool = True,
    report: Callable[[Summary], None] = lambda _summary: None,
) -> Summary:
    """Compare what is cached with the checksums of what came.

    Args:
        source: the canonical URL of a source; None: every source of the cache.
        patterns: globs on the path below the source; none: everything, earlier versions too.
        cache_folder: the cache.
        rate: bytes a second to read at most; 0: no limit.
        deadline: seconds without a byte after which a request to an origin counts as stalled.
        traffic: how much may be asked of the network.
        refetch: fetch again what was bad.
        report: called with what was found so far, after every object.

    Raises:
        MirrorError: the cache has never seen this source.
        cache.BadPattern: a pattern can match nothing.
        cache.CacheError: the cache cannot be used.
    """
    raise_descriptor_limit()
    wanted = Patterns(patterns)
    summary = Summary()
    started = trio.current_time()
    pace = Rate(rate)
    async with Cache.open(cache_folder) as cache:
        sources = [(url, root) for url, root in cache.tree.sources() if source in (None, url)]
        if source is not None and not sources:
            known = ", ".join(url for url, _ in cache.tree.sources()) or "none"
            raise MirrorError(f"the cache has nothing of {source}; it knows: {known}")
        # What has just been completed becomes an object of the index first.
        await cache.objects.sync()
        for _, root in sources:
            objects, bytes_ = cache.objects.count(root.id)
            summary.objects_total += objects
            summary.bytes_total += bytes_
        for url, root in sources:
            bad: list[tuple[Damage, Node]] = []
            async for node, path in _cached(cache, root.id, wanted, summary):
                await _check(cache, url, node, path, pace, summary, bad)
                report(summary)
            if bad and refetch:
                await _fetch_again(cache, url, deadline, traffic, bad, summary)
        summary.elapsed = trio.current_time() - started
        report(summary)
    return summary


async def _cached(
    cache: Cache, source: int, wanted: Patterns, summary: Summary
) -> AsyncIterator[tuple[Node, str]]:
    after = 0
    while nodes := cache.objects.cached(source, after, PAGE):
        after = nodes[-1].id
        for node in nodes:
            path = cache.tree.path(node.id)
            if wanted.matches(path):
                yield node, path
            else:
                summary.objects_total -= 1
                summary.bytes_total -= node.size or 0
        await trio.lowlevel.checkpoint()


async def _check(
    cache: Cache,
    url: str,
    node: Node,
    path: str,
    pace: Rate,
    summary: Summary,
    bad: list[tuple[Damage, Node]],
) -> None:
    try:
        finding = await cache.verification.check(node, pace)
    except CacheError as exc:
        summary.failed += 1
        summary.unchecked.append((path, str(exc)))
    else:
        _note(finding, url, path, summary, bad)
    summary.objects_done += 1
    summary.bytes_done += node.size or 0


def _note(finding: Finding, url: str, path: str, summary: Summary, bad: list[tuple[Damage, Node]]) -> None:
    match finding.state:
        case State.GOOD:
            summary.good += 1
        case State.UNKNOWN:
            summary.unknown += 1
            summary.unchecked.append((path, "it was cached without checksums; evict it to fetch it anew"))
        case State.BAD:
            summary.bad += 1
            damage = Damage(url, path, list(finding.damaged))
            summary.damage.append(damage)
            bad.append((damage, finding.node))
        case State.ABSENT:
            pass  # somebody fetches or removes it at this moment


async def _fetch_again(
    cache: Cache,
    url: str,
    deadline: float,
    traffic: Traffic,
    bad: Sequence[tuple[Damage, Node]],
    summary: Summary,
) -> None:
    async with open_source(url, cache, ttl=0.0, deadline=deadline, traffic=traffic) as engine:
        for damage, node in bad:
            damage.reason = await fetched_again(engine, node)
            damage.refetched = damage.reason is None
            summary.refetched += damage.refetched
        await cache.objects.sync()


async def fetched_again(engine: Engine, node: Node) -> str | None:
    """Fetch what stands at the name of a file that was damaged; returns why that was not possible."""
    if not node.current:
        return "the origin has another version now"
    try:
        await engine.fetcher.whole(await engine.namespace.fresh(node), Priority.WARM)
    except (MirrorError, CacheError) as exc:
        return str(exc)
    return None


async def scrub(engine: Engine, period: float) -> None:
    """Look at every object of the cache once in ``period`` seconds, for as long as this is not cancelled.

    Several mounts of one cache share the work: each takes the object that nobody looked at for the
    longest time. What is bad and of this engine's source is fetched again.
    """
    verification, pace = engine.cache.verification, Rate(SCRUB_RATE)
    while True:
        try:
            node = await verification.due(time.time() - period)
            if node is not None:
                finding = await verification.check(node, pace)
                if finding.state is State.BAD and node.source == engine.namespace.root.id:
                    why = await fetched_again(engine, finding.node)
                    log.warning(
                        "%s was damaged and %s",
                        node.name,
                        "is fetched again" if why is None else f"lost: {why}",
                    )
                if finding.state is not State.ABSENT:
                    continue
        except CacheError as exc:
            log.warning("the scrub rests: %s", exc)
        await trio.sleep(min(IDLE_SECONDS, max(1.0, period / 10)))
