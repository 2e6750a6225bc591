"""The cache as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cache.objects import Objects
from cache.tree import Tree


class Cache:
    path: Path
    tree: Tree
    objects: Objects

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Cache]:
        raise NotImplementedError
        yield
