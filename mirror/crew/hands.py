"""What fetches one file after another for a run: this process itself, or one that helps it."""

from __future__ import annotations

from typing import Protocol

from cache import Node
from mirror.engine import Engine
from mirror.fetch import Priority


class Hands(Protocol):
    """One process, as it looks to the run: both raise what the fetcher raises, wherever that is."""

    async def fresh(self, node: Node) -> Node:
        """The current node of a file whose size no listing gives: the origin is asked."""

    async def fetch(self, path: str, node: Node) -> bool:
        """Return once the file is complete: whether it was not before. ``path``: below the source."""


class Own:
    """Those of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def fresh(self, node: Node) -> Node:
        """See `Hands`."""
        # It takes a connection as a fetch does, and there are not more than were shared out.
        async with self._engine.fetcher.connection(Priority.WARM):
            return await self._engine.namespace.fresh(node)

    async def fetch(self, path: str, node: Node) -> bool:
        """See `Hands`."""
        fill = await self._engine.fetcher.missing(node, Priority.WARM, path)
        return not fill.found
