"""Evicting what somebody names: all of it that may go, and a word about what stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from cache import Cache, Node
from cache.patterns import Patterns
from cache.removal import Stays

CHUNK = 1024
"""Objects removed between two reports."""
ROUNDS = 10
"""How often is tried again what others were asked to let go of."""


@dataclass(slots=True)
class Cleared:
    """What went and what stayed: objects, current and superseded, and the bytes of disk that they take."""

    removed: int = 0
    freed: int = 0
    in_use: int = 0
    in_use_bytes: int = 0
    filled: int = 0
    """Being fetched at this moment."""
    filled_bytes: int = 0
    pinned: int = 0
    pinned_bytes: int = 0

    @property
    def matched(self) -> int:
        """All objects that were meant."""
        return self.removed + self.in_use + self.filled + self.pinned


@dataclass(frozen=True, slots=True)
class _Object:
    node: Node
    occupied: int


async def clear(
    cache: Cache,
    source: int,
    patterns: Patterns | None,
    *,
    pinned: bool,
    dry_run: bool,
    report: Callable[[Cleared], None] = lambda _: None,
) -> Cleared:
    """Remove the cached objects of what matches, but those that are pinned, in use or being fetched.

    Args:
        cache: which.
        source: id of the source's root; 0: of all.
        patterns: which files; None: all.
        pinned: also what is pinned.
        dry_run: change nothing, only count.
        report: called with what is done so far.

    Raises:
        cache.CacheError: the index failed; what was removed until then is gone.
    """
    run = _Run(cache, Cleared(), dry_run, report)
    chunk: list[_Object] = []
    for number, (path, found) in enumerate(cache.survey.objects(source)):
        if number % CHUNK == 0:
            await trio.lowlevel.checkpoint()  # a look at Ctrl-C
        if patterns is not None and not patterns.matches(path):
            continue
        node = found.node
        kept = None if pinned or not node.current else cache.pins.of(node.source)
        if kept is not None and kept.matches(path):
            run.cleared.pinned += 1
            run.cleared.pinned_bytes += found.occupied
            continue
        chunk.append(_Object(node, found.occupied))
        if len(chunk) >= CHUNK:
            await run.remove(chunk)
            chunk = []
    await run.remove(chunk)
    await run.ask_for_the_rest()
    await cache.space.given_back()
    return run.cleared


class _Run:
    def __init__(
        self, cache: Cache, cleared: Cleared, dry_run: bool, report: Callable[[Cleared], None]
    ) -> None:
        self.cleared = cleared
        self._cache = cache
        self._dry_run = dry_run
        self._report = report
        self._left: list[_Object] = []

    async def remove(self, objects: list[_Object]) -> None:
        """Remove what goes at once; what does not is tried again at the end."""
        if self._dry_run:
            for each in objects:
                await self._foresee(each)
        else:
            self._left += await self._evict(objects, rounds=1)
        self._report(self.cleared)

    async def ask_for_the_rest(self) -> None:
        """Ask mounts to let go of what they have at hand, remove that too, and see why the others stay."""
        left = await self._evict(self._left, rounds=ROUNDS) if self._left else []
        for each in left:
            await self._foresee(each)

    async def _evict(self, objects: list[_Object], rounds: int) -> list[_Object]:
        eviction = self._cache.objects.eviction
        removed = await eviction.evict([each.node for each in objects], rounds=rounds)
        self.cleared.removed += len(removed)
        self.cleared.freed += sum(each.freed for each in removed)
        gone = {each.node for each in removed}
        return [each for each in objects if each.node.id not in gone]

    async def _foresee(self, each: _Object) -> None:
        cleared = self.cleared
        match await trio.to_thread.run_sync(self._cache.objects.removal.why_it_stays, each.node):
            case Stays.FILLED:
                cleared.filled += 1
                cleared.filled_bytes += each.occupied
            case None if self._dry_run:
                cleared.removed += 1
                cleared.freed += each.occupied
            case _:  # also what became free in this moment: it is still there
                cleared.in_use += 1
                cleared.in_use_bytes += each.occupied
