"""What a mount does for its cache behind its readers' backs: limits, strays, and pins that grow."""

from __future__ import annotations

import logging

import trio

from cache import Cache, CacheError, Changes, Kind, Node
from cache.serving import serving
from mirror.engine import Engine
from mirror.errors import MirrorError
from mirror.fetch import Priority

log = logging.getLogger(__name__)

FOLDERS = 4096
"""Folders with changes that wait to be looked at; beyond it, the longest in line is passed over."""


async def say_served(cache: Cache, task_status: trio.TaskStatus[None]) -> None:
    """Say to others that a mount is served from the cache, for as long as it is."""
    with serving(cache.path):
        task_status.started()
        await trio.sleep_forever()


async def keep_house(cache: Cache) -> None:
    """Once after a start of the system, look for files that nobody knows; then keep the limits.

    They may have been lowered, and what was found takes room as well.
    """
    try:
        swept = await trio.to_thread.run_sync(cache.sweep.after_a_start, trio.from_thread.check_cancelled)
        if swept is not None and (swept.adopted or swept.removed):
            log.info(
                "files that the index did not know: %d taken over, %d removed", swept.adopted, swept.removed
            )
        freed = await cache.objects.shrink()
    except CacheError as exc:
        log.warning("the cache could not be tidied up: %s", exc)
    else:
        if freed:
            log.info("%d bytes were evicted: the cache was over its limits", freed)


class PinnedFiles:
    """Fetches what is pinned and appears or changes at the origin while the mount lives.

    What is remembered is only which folders changed: their pinned files are looked up when their turn
    comes, so it does not matter how many there are.
    """

    def __init__(self) -> None:
        self._folders: dict[int, None] = {}
        self._wake = trio.Event()

    def changed(self, changes: Changes) -> None:
        """Note what is new."""
        for node in (*changes.added, *(new for _, new in changes.changed)):
            self._look_into(node.parent)
            if node.kind is Kind.FOLDER:
                self._look_into(node.id)

    def _look_into(self, folder: int) -> None:
        if len(self._folders) >= FOLDERS:
            # `mirror pin`, run again, fetches what is passed over here.
            self._folders.pop(next(iter(self._folders)))
        self._folders[folder] = None
        self._wake.set()

    async def run(self, engine: Engine) -> None:
        """Fetch for as long as the mount lives, one file after the other."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._folders:
                folder = next(iter(self._folders))
                del self._folders[folder]
                try:
                    await self._fetch(engine, folder)
                except (MirrorError, CacheError) as exc:
                    log.info("what is pinned in folder %d is not looked at: %s", folder, exc)

    async def _fetch(self, engine: Engine, folder: int) -> None:
        source = engine.namespace.root.id
        patterns = engine.cache.pins.of(source)
        known = engine.cache.tree.node(folder)
        if patterns is None or known is None or not known.current:
            return
        path = engine.namespace.path(known)
        if not patterns.may_match_below(path):
            return
        await engine.namespace.listed(folder)
        wanted: list[Node] = []
        after = 0
        while nodes := engine.namespace.children(folder, after):
            after = nodes[-1].entry
            for node in nodes:
                child = f"{path}/{node.name}" if path else node.name
                if node.kind is Kind.FOLDER:
                    if node.listed_at is None and patterns.may_match_below(child):
                        self._look_into(node.id)
                elif patterns.matches(child) and not engine.cache.objects.state(node).complete:
                    wanted.append(node)
        for node in wanted:
            try:
                await engine.fetcher.whole(node, Priority.WARM)
            except MirrorError as exc:
                log.warning("%s is pinned, and could not be fetched: %s", engine.namespace.path(node), exc)
