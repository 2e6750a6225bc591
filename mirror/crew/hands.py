"""What fetches one file after another for a run: this process itself, or one that helps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cache import Node
from mirror.engine import Engine
from mirror.fetch import Priority


@dataclass(frozen=True, slots=True)
class Got:
    """What it took until a file was complete."""

    fetched: bool
    """It was not complete before."""
    met: bool = False
    """Another process was seen to fetch it at the same time."""


class Hands(Protocol):
    """One process, as it looks to the run: both raise what the fetcher raises, wherever that is."""

    async def fresh(self, node: Node) -> Node:
        """The current node of a file whose size no listing gives: the origin is asked."""

    async def fetch(self, node: Node) -> Got:
        """Return once the file is complete."""


class Own:
    """Those of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def fresh(self, node: Node) -> Node:
        """See `Hands`."""
        # It takes a connection as a fetch does, and there are not more than were shared out.
        async with self._engine.fetcher.connection(Priority.WARM):
            return await self._engine.namespace.fresh(node)

    async def fetch(self, node: Node) -> Got:
        """See `Hands`."""
        # Not a look for its file: the fill sees it on its way, and most files are not there.
        if self._engine.cache.objects.known_complete(node):
            return Got(fetched=False)
        fill = await self._engine.fetcher.missing(node, Priority.WARM)
        return Got(fetched=not fill.found, met=fill.followed)
