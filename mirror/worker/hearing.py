"""Telling the kernel what other processes learned of the origin.

What this process learns by itself it tells at once. But a folder that another mount, `mirror index` or
`mirror refresh` has listed is fresh for us as well, and is not listed again: what changed in it is heard from
them (`cache.news`), within a fraction of a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from cache import Cache, CacheError, Changes, Node
from cache.recalls import POLL_SECONDS
from mirror.worker.kernel import Kernel

log = logging.getLogger(__name__)


class Hearing:
    """What one mount hears from others."""

    def __init__(
        self,
        cache: Cache,
        source: int,
        kernel: Kernel,
        changed: Callable[[Changes], None],
        all_changed: Callable[[], None],
    ) -> None:
        """Hear of a source.

        Args:
            cache: where the news are.
            source: id of its root.
            kernel: who is told.
            changed: takes what changed, as from a listing of our own.
            all_changed: takes every name back.
        """
        self._cache = cache
        self._source = source
        self._kernel = kernel
        self._changed = changed
        self._all_changed = all_changed
        kernel.told = cache.news.heard

    async def run(self) -> None:
        """Hear for as long as the mount lives."""
        while True:
            try:
                self.look()
            except CacheError as exc:
                log.warning("what others have learned is not heard: %s", exc)
            await trio.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Tell the kernel what is new."""
        before = self._cache.news.heard
        items = self._cache.news.new()
        if items.missed:
            self._all_changed()
        if changes := self._changes(items.nodes):
            self._changed(changes)
        for id_ in items.folders:
            folder = self._cache.tree.node(id_)
            if folder is not None and folder.source == self._source:
                self._kernel.forget_folder(id_)
        if self._cache.news.heard != before:
            self._kernel.mark(self._cache.news.heard)

    def _changes(self, ids: tuple[int, ...]) -> Changes:
        added: list[Node] = []
        changed: list[tuple[Node, Node]] = []
        removed: list[Node] = []
        for id_ in dict.fromkeys(ids):
            node = self._cache.tree.node(id_)
            if node is None or node.source != self._source:
                continue
            if node.current:
                added.append(node)
            elif (new := self._cache.tree.child(node.parent, node.name)) is not None:
                changed.append((node, new))
            else:
                removed.append(node)
        return Changes(added, changed, removed)
