"""Keeping the kernel's view fresh without making it ask.

Names and attributes are given to the kernel for a long time, so that a warm epoch costs no look-up.
In return every folder the kernel may know is watched: when its listing outlives the TTL it is
listed again in the background, and what changed is taken back from the kernel. A folder that has
not been used for long, or too many to keep listing, lapses instead: all its names are taken back,
and the next use of one of them comes to us and is answered freshly. Either way nobody sees an
answer older than the TTL plus the time of one listing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import trio

from cache import CacheError
from mirror.errors import MirrorError

log = logging.getLogger(__name__)

KEPT = 256
"""Folders that are listed again in the background; the least recently used beyond it lapse."""
IDLE_TTLS = 10
"""A folder that reached us for this many TTLs no more lapses (the kernel may still use it)."""
AT_ONCE = 8
"""Folders that are listed again side by side."""
TICK = 1.0
"""Seconds between looks; a fraction of the TTL where that is shorter."""


class Listings(Protocol):
    """What is asked of the namespace."""

    def is_fresh(self, folder: int) -> bool:
        """Whether a folder's listing is within the TTL."""

    async def listed(self, folder: int) -> object:
        """List a folder again if it is not fresh. Raises `MirrorError`."""


class Watch:
    """The folders whose names the kernel may hold."""

    def __init__(self, namespace: Listings, ttl: float, take_back: Callable[[int], None]) -> None:
        """Watch over folders; ``take_back(folder)`` makes the kernel forget all names in one."""
        self._namespace = namespace
        self._ttl = ttl
        self._take_back = take_back
        self._used: OrderedDict[int, float] = OrderedDict()  # folder → last use, trio time
        self._under_way: set[int] = set()
        self._turn = trio.Semaphore(AT_ONCE)

    def used(self, folder: int) -> None:
        """The kernel was told about names in this folder."""
        self._used[folder] = trio.current_time()
        self._used.move_to_end(folder)

    def take_all_back(self) -> None:
        """Anything may have changed: every folder lapses."""
        for folder in list(self._used):
            self._lapse(folder)

    async def run(self) -> None:
        """Refresh and lapse for as long as the mount lives; returns at once for an endless TTL."""
        if self._ttl == float("inf"):
            return
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(min(TICK, max(self._ttl / 4, 0.05)))
                self._round(nursery)

    def _round(self, nursery: trio.Nursery) -> None:
        idle_since = trio.current_time() - IDLE_TTLS * self._ttl
        surplus = len(self._used) - KEPT
        for position, (folder, used) in enumerate(list(self._used.items())):
            if folder in self._under_way or self._namespace.is_fresh(folder):
                continue
            if position < surplus or used < idle_since:
                self._lapse(folder)
            else:
                self._under_way.add(folder)
                nursery.start_soon(self._list, folder)

    async def _list(self, folder: int) -> None:
        """List one folder; others do not wait for one of a million names."""
        try:
            async with self._turn:
                await self._namespace.listed(folder)
        except (MirrorError, CacheError) as exc:
            log.info("folder %d is watched no more: %s", folder, exc)
            self._lapse(folder)
        finally:
            self._under_way.discard(folder)

    def _lapse(self, folder: int) -> None:
        self._used.pop(folder, None)
        self._take_back(folder)
