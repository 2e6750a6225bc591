"""One source over one cache, put together: what a mount's worker and `mirror warm` have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from cache import Cache, Changes, Node, Objects
from mirror.fetch import Fetcher, open_fetcher
from mirror.fetch.descriptors import Delivery, Descriptors
from mirror.namespace import Namespace
from mirror.remotes import open_remote
from mirror.remotes.base import Remote
from mirror.retry import Schedule


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of a running mirror, wired to each other."""

    cache: Cache
    remote: Remote
    namespace: Namespace
    fetcher: Fetcher


@asynccontextmanager
async def open_engine(
    source: str,
    cache_folder: Path,
    *,
    ttl: float,
    deadline: float,
    completed: Callable[[Node, int], None] = lambda _node, _fd: None,
    on_change: Callable[[Changes], None] = lambda _changes: None,
    delivery: Callable[[Objects], Delivery] = Descriptors,
    discarded: Callable[[Node], None] = lambda _node: None,
) -> AsyncIterator[Engine]:
    """Open the cache and the source; everything ends, resumable, with this context.

    Args:
        source: the source URL.
        cache_folder: the cache, made when it does not exist.
        ttl: seconds an answer of the origin is trusted.
        deadline: seconds without a byte after which the origin counts as stalled.
        completed: receives each complete file and a read-only descriptor of its object, which it
            must not keep.
        on_change: receives what changed at the origin.
        delivery: makes what answers reads.
        discarded: receives each incomplete file whose bytes turned out to be wrong.

    Raises:
        UsageError: the source cannot mean anything.
        cache.CacheUnusable: the folder cannot be a cache.
    """
    schedule = Schedule(deadline=deadline)
    remote = open_remote(source, deadline=deadline)
    try:
        async with Cache.open(cache_folder) as cache:
            root = await cache.tree.root(remote.url)
            namespace = Namespace(cache.tree, remote, root, ttl=ttl, schedule=schedule, on_change=on_change)
            async with open_fetcher(
                cache.objects,
                remote,
                namespace,
                schedule=schedule,
                completed=completed,
                delivery=delivery(cache.objects),
                discarded=discarded,
            ) as fetcher:
                yield Engine(cache, remote, namespace, fetcher)
    finally:
        with trio.CancelScope(shield=True):
            await remote.aclose()
