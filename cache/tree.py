"""Names and versions."""

from __future__ import annotations

from collections.abc import Sequence

from cache.model import Changes, Entry, Node


class Tree:
    """Names and versions of every source."""

    async def root(self, url: str) -> Node:
        raise NotImplementedError

    def sources(self) -> list[tuple[str, Node]]:
        raise NotImplementedError

    def node(self, id: int) -> Node | None:
        raise NotImplementedError

    def child(self, parent: int, name: str) -> Node | None:
        raise NotImplementedError

    def children(self, folder: int, after: int = 0, limit: int = 1000) -> list[Node]:
        raise NotImplementedError

    def count(self, folder: int) -> int:
        raise NotImplementedError

    def path(self, id: int) -> str:
        raise NotImplementedError

    async def put_listing(self, folder: int, entries: Sequence[Entry], *, validator: str | None, at: float) -> Changes:
        raise NotImplementedError

    async def confirm_listing(self, folder: int, at: float) -> None:
        raise NotImplementedError

    async def put_entry(self, parent: int, entry: Entry, at: float) -> Node:
        raise NotImplementedError

    async def remove(self, node: int) -> None:
        raise NotImplementedError
