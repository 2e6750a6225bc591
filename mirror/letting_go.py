"""Letting go of objects that are open only because they might be read again.

Eviction takes nothing that is in use, and what a reader has finished with is kept open for a while: as
the kernel's backing file, or as a descriptor at hand. Here both are let go when the room is wanted, by
this process (`cache.eviction` asks) or by another one (`cache.recalls`). Damaged objects are taken back in
the same way, for good: the kernel forgets their names, and whoever looks one up again gets the new node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from cache import Cache, CacheError, Changes, LetGo
from cache.recalls import POLL_SECONDS, Recall
from mirror.fetch.descriptors import Delivery

log = logging.getLogger(__name__)


class LettingGo:
    """What one source of one process has open, from the side of those who want the room."""

    def __init__(
        self, cache: Cache, delivery: Delivery, kernel: LetGo, on_change: Callable[[Changes], None]
    ) -> None:
        """``kernel`` lets go of backing files; ``on_change`` hears of nodes that others stand for now."""
        self._cache = cache
        self._delivery = delivery
        self._kernel = kernel
        self._on_change = on_change

    async def __call__(self, nodes: Sequence[int]) -> set[int]:
        """Let go of what nobody has open; returns the nodes that somebody has."""
        for node in nodes:
            self._delivery.forget(node)
        return await self._kernel(nodes)

    async def run(self) -> None:
        """Answer what other processes ask, for as long as the source is open."""
        while True:
            try:
                await self._answer(self._cache.recalls.new())
            except CacheError as exc:
                log.warning("what others ask for is not heard: %s", exc)
            await trio.sleep(POLL_SECONDS)

    async def _answer(self, recalls: Sequence[Recall]) -> None:
        wanted = [recall.node for recall in recalls if not recall.bad]
        if wanted:
            await self(wanted)
        for recall in recalls:
            if recall.bad:
                self._take_back(recall.node)

    def _take_back(self, id_: int) -> None:
        self._delivery.forget(id_)
        old = self._cache.tree.node(id_)
        if old is None or old.current:
            return  # nobody had it in use: the node stands for good bytes again
        new = self._cache.tree.child(old.parent, old.name)
        changes = Changes(removed=[old]) if new is None else Changes(changed=[(old, new)])
        self._on_change(changes)
