"""What a cache may hold against what it is asked to hold: said with the numbers before anything is fetched.

Limits belong to the cache. What is pinned has to fit into them, and so has what is fetched ahead of use
beside it: otherwise the end of a run would evict what its beginning has fetched.
"""

from __future__ import annotations

import trio

from cache import Cache
from cache.limits import Amount, Limits, Room
from cache.patterns import Patterns
from cache.space import footprint
from mirror.errors import DoesNotFit

NO_LIMIT = "none"
"""As a cache size: the disk is the only limit."""


async def apply_limits(cache: Cache, cache_size: str | None, min_free: str | None) -> None:
    """Set limits of a cache; a None leaves what is set.

    Args:
        cache: whose.
        cache_size: bytes (``"1073741824"``), a share of the file system (``"20%"``) or `NO_LIMIT`.
        min_free: bytes or a share.

    Raises:
        DoesNotFit: more than that is pinned; nothing is changed.
        cache.CacheError: the index failed.
    """
    if cache_size is None and min_free is None:
        return
    kept = cache.space.limits()
    size = kept.cache_size
    if cache_size is not None:
        size = None if cache_size == NO_LIMIT else Amount.parse(cache_size)
    limits = Limits(size, kept.min_free if min_free is None else Amount.parse(min_free))
    would = cache.space.room(limits)
    pinned = await trio.to_thread.run_sync(cache.survey.pinned)
    if pinned.room > would.capacity:
        raise DoesNotFit(
            f"what is pinned takes {pinned.room:,} bytes ({_files(pinned.files)}), and the cache could hold "
            f"only {would.capacity:,}{_why(would)}: unpin some ('mirror pins' shows them), or allow more"
        )
    if cache_size == NO_LIMIT:
        await cache.space.unset_cache_size()
    await cache.space.set_limits(limits)


class Budget:
    """What one run asks a cache to hold, counted as its files become known."""

    def __init__(self, cache: Cache, source: int, pinned: int) -> None:
        """``pinned``: bytes of disk that all that is pinned takes."""
        self._cache = cache
        self._mine: Patterns | None = cache.pins.of(source)
        self._pinned = pinned
        self._capacity = cache.space.room().capacity
        self._files = 0
        self._wanted = 0
        self._counted_twice = 0

    @classmethod
    async def of(cls, cache: Cache, source: int) -> Budget:
        """The budget of a run over one source."""
        pinned = await trio.to_thread.run_sync(cache.survey.pinned)
        return cls(cache, source, pinned.room)

    def add(self, path: str, size: int) -> None:
        """Count one more file of ``size`` bytes.

        Raises:
            DoesNotFit: with this one it is more than the cache may hold.
        """
        room = footprint(size)
        self._files += 1
        self._wanted += room
        if self._mine is not None and self._mine.matches(path):
            self._counted_twice += room
        if self._total > self._capacity:
            self.check()

    def check(self) -> None:
        """Compare with what the cache may hold at this moment. Raises as `add` does."""
        now = self._cache.space.room()
        self._capacity = now.capacity
        if self._total <= now.capacity:
            return
        other = max(0, self._pinned - self._counted_twice)
        beside = f", and {other:,} more are pinned otherwise" if other else ""
        raise DoesNotFit(
            f"what matches takes {self._wanted:,} bytes or more ({_files(self._files)} so far){beside}; the "
            f"cache may hold {now.capacity:,}{_why(now)}: name fewer files by narrower patterns, or allow "
            f"more by --cache-size or --min-free"
        )

    @property
    def _total(self) -> int:
        return max(self._pinned - self._counted_twice, 0) + self._wanted


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def _why(now: Room) -> str:
    if now.disk_is_short:
        return " (its file system has no more to give, what stays free counted)"
    return ""
