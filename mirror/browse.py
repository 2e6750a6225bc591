"""Looking at a source through its cache: its names, and how much of each file is here.

Answered from the index while the listing is within its TTL, and when the origin does not answer; else the
folder is listed first, as a mount would.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from cache import Cache, Kind, Node
from cache.patterns import Patterns
from cache.survey import Surveyed
from mirror.engine import open_engine
from mirror.errors import NotAFolder, NotFound, SetupError
from mirror.remotes import key
from mirror.selection import root_of


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a folder."""

    path: str
    """Below the source."""
    found: Surveyed
    pinned: bool
    """A file that is kept; a folder all of whose files are."""


async def browse(
    source: str,
    path: str,
    cache_folder: Path,
    *,
    show: Callable[[list[Listed]], None],
    recursive: bool = False,
    cached: bool = False,
    offline: bool = False,
    ttl: float = 60.0,
    deadline: float = 30.0,
) -> None:
    """Show the entries of a folder.

    Args:
        source: canonical URL.
        path: of the folder, below the source; ``""``: the source itself.
        cache_folder: the cache.
        show: takes the entries of a folder by name; once for each folder, that of ``path`` first.
        recursive: go on with the folders below.
        cached: only what is here, at least in part.
        offline: never ask the origin.
        ttl: seconds for which a listing is trusted.
        deadline: seconds without a byte after which a request has failed.

    Raises:
        NotFound: there is no such path.
        NotAFolder: it is a file.
        SetupError: offline, and the source or the folder was never listed.
        MirrorError: a folder was never listed, and the origin cannot be asked.
        cache.CacheError: the cache cannot be used.
    """
    opened = _offline(source, cache_folder) if offline else _online(source, cache_folder, ttl, deadline)
    async with opened as (cache, root, listed):
        await listed(root, "")
        folder = await _find(cache, root, path, listed)
        patterns = cache.pins.of(root.id)
        holding = await trio.to_thread.run_sync(cache.survey.holding, root.id) if cached else None
        folders = [("/".join(_names(path)), folder)]
        while folders:
            where, folder = folders.pop()
            await listed(folder, where)
            entries = [
                _listed(where, found, patterns)
                for found in await trio.to_thread.run_sync(cache.survey.folder, folder.id)
                if holding is None or found.cached or found.complete or found.node.id in holding
            ]
            show(entries)
            if recursive:
                below = [entry for entry in entries if entry.found.node.kind is Kind.FOLDER]
                folders.extend((entry.path, entry.found.node) for entry in reversed(below))


_Listed = Callable[[Node, str], Awaitable[None]]
"""Makes sure that a folder's listing is as fresh as it has to be."""


@asynccontextmanager
async def _online(
    source: str, cache_folder: Path, ttl: float, deadline: float
) -> AsyncIterator[tuple[Cache, Node, _Listed]]:
    async with open_engine(source, cache_folder, ttl=ttl, deadline=deadline) as engine:

        async def listed(folder: Node, _: str) -> None:
            await engine.namespace.listed(folder.id)

        yield engine.cache, engine.namespace.root, listed


@asynccontextmanager
async def _offline(source: str, cache_folder: Path) -> AsyncIterator[tuple[Cache, Node, _Listed]]:
    async with Cache.open(cache_folder) as cache:

        async def listed(folder: Node, path: str) -> None:
            known = cache.tree.node(folder.id)
            if known is None or known.listed_at is None:
                raise SetupError(f"{path or source} was never listed: leave out --offline to ask the origin")

        yield cache, root_of(cache, key(source)), listed


async def _find(cache: Cache, root: Node, path: str, listed: _Listed) -> Node:
    folder, where = root, ""
    for name in _names(path):
        await listed(folder, where)
        where = f"{where}/{name}" if where else name
        child = cache.tree.child(folder.id, name)
        if child is None:
            raise NotFound(f"there is no {where} in {root.name}: 'mirror ls' shows what is")
        if child.kind is not Kind.FOLDER:
            raise NotAFolder(f"{where} is a file, not a folder: name the folder that it is in")
        folder = child
    return folder


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _listed(where: str, found: Surveyed, patterns: Patterns | None) -> Listed:
    path = f"{where}/{found.node.name}" if where else found.node.name
    return Listed(path, found, patterns is not None and patterns.matches(path))
