"""One source over one cache, put together: what a mount's worker and `mirror warm` have in common."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict, Unpack

import trio

from cache import Cache, Changes, LetGo, Node, Objects, nobody_has_any
from mirror.background import background
from mirror.config import FetchMode
from mirror.fetch import Fetcher, open_fetcher
from mirror.fetch.descriptors import Delivery, Descriptors
from mirror.http.throttle import PROCESS
from mirror.letting_go import LettingGo
from mirror.namespace import Namespace
from mirror.remotes import How as SourceHow
from mirror.remotes import open_remote
from mirror.remotes.base import Remote
from mirror.retry import Schedule
from mirror.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of a running mirror, wired to each other."""

    cache: Cache
    remote: Remote
    namespace: Namespace
    fetcher: Fetcher


@asynccontextmanager
async def open_engine(source: str, cache_folder: Path, **how: Unpack[How]) -> AsyncIterator[Engine]:
    """Open the cache and the source; everything ends, resumable, with this context.

    Args:
        source: the source URL.
        cache_folder: the cache, made when it does not exist.
        how: as for `open_source`.

    Raises:
        UsageError: the source cannot mean anything.
        cache.CacheUnusable: the folder cannot be a cache.
    """
    async with Cache.open(cache_folder) as cache, open_source(source, cache, **how) as engine:
        yield engine


class How(TypedDict, total=False):
    """How a source is opened."""

    ttl: Required[float]
    """Seconds an answer of the origin is trusted."""
    since: float
    """What it was asked after this (epoch seconds) is trusted in any case; of all processes that ask for a
    listing like this at the same time, one does."""
    deadline: Required[float]
    """Seconds without a byte after which the origin counts as stalled."""
    completed: Callable[[Node, int], None] | None
    """Receives each complete file and a read-only descriptor of its object, which it must not keep."""
    on_change: Callable[[Changes], None]
    """Receives what changed at the origin."""
    delivery: Callable[[Objects], Delivery]
    """Makes what answers reads."""
    discarded: Callable[[Node], None]
    """Receives each incomplete file whose bytes turned out to be wrong."""
    kernel: LetGo
    """Lets go of the kernel's backing files."""
    fetch: FetchMode
    """How much is fetched of a file of more than ``whole_up_to`` bytes when some of it is read."""
    whole_up_to: int
    traffic: Traffic
    """How much may be asked of the network."""
    verify: bool
    """Compare every object with its checksums before it is handed to ``completed``."""


@asynccontextmanager
async def open_source(
    source: str,
    cache: Cache,
    *,
    ttl: float,
    deadline: float,
    since: float = math.inf,
    completed: Callable[[Node, int], None] | None = None,
    on_change: Callable[[Changes], None] = lambda _changes: None,
    delivery: Callable[[Objects], Delivery] = Descriptors,
    kernel: LetGo = nobody_has_any,
    verify: bool = False,
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
    fetch: FetchMode = FetchMode.WHOLE,
    whole_up_to: int = 0,
    discarded: Callable[[Node], None] = lambda _node: None,
) -> AsyncIterator[Engine]:
    """Open a source over a cache that is open; its fills end, resumable, with this context.

    The arguments are those of `How`.

    Raises:
        UsageError: the source cannot mean anything.
    """
    schedule = Schedule(deadline=deadline)
    how = SourceHow(deadline=deadline, connections=traffic.connections, cache=cache.path)
    remote = open_remote(source, how)
    try:
        if traffic.bwlimit is not None:
            PROCESS.follow(traffic.bwlimit)
        root = await cache.tree.root(remote.url)
        namespace = Namespace(
            cache.tree,
            remote,
            root,
            ttl=ttl,
            schedule=schedule,
            since=since,
            turns=None if since == math.inf else cache.turns,
            on_change=on_change,
        )
        reading = delivery(cache.objects)
        letting_go = LettingGo(cache, reading, kernel, on_change)
        async with (
            open_fetcher(
                cache.objects,
                remote,
                namespace,
                schedule=schedule,
                completed=completed,
                delivery=reading,
                verification=cache.verification if verify else None,
                discarded=discarded,
                connections=traffic.connections,
                mode=fetch,
                whole_up_to=whole_up_to,
            ) as fetcher,
            background() as nursery,
        ):
            nursery.start_soon(letting_go.run)
            cache.objects.eviction.holders.append(letting_go)
            try:
                yield Engine(cache, remote, namespace, fetcher)
            finally:
                cache.objects.eviction.holders.remove(letting_go)
    finally:
        with trio.CancelScope(shield=True):
            if traffic.bwlimit is not None:
                PROCESS.follow(None)
            await remote.aclose()
