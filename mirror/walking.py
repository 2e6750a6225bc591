"""Going through the folders of a source in parallel, and listing those that are due.

What is still to do is a stack of ids: as long as the folders beside the way down, and 8 bytes for each.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence

import trio

from cache import Cache, Node
from mirror.background import together
from mirror.errors import MirrorError, OriginFailed, Stalled

GIVE_UP_AFTER = 10
"""Folders in a row that failed because the origin does not answer: the rest would fail too."""
_AT_ONCE = 64
"""Folders passed by before other tasks have their turn."""


class Failures:
    """What could not be had of a source, and whether it is worth going on."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        """Path and reason."""
        self.origin_is_down = False
        """At least one of them might succeed at another time."""
        self._in_a_row = 0
        self._gave_up = False

    def add(self, path: str, why: MirrorError) -> None:
        """Note one.

        Raises:
            OriginFailed: it is the last of many in a row.
        """
        if self._gave_up:
            return  # it was said
        self.all.append((path or "/", str(why)))
        if not isinstance(why, OriginFailed | Stalled):
            self._in_a_row = 0
            return
        self.origin_is_down = True
        self._in_a_row += 1
        if self._in_a_row >= GIVE_UP_AFTER:
            self._gave_up = True
            raise OriginFailed(f"{why}; gave up after {GIVE_UP_AFTER} folders in a row")

    def succeeded(self) -> None:
        """Note that the origin answered."""
        self._in_a_row = 0


async def walk_folders(
    cache: Cache,
    roots: Sequence[int],
    *,
    due: Callable[[Node], bool],
    ask: Callable[[Node], Awaitable[bool]],
    jobs: int,
) -> None:
    """Go through folders and all below them.

    Args:
        cache: where they are.
        roots: ids of the folders to begin with.
        due: whether a folder is to be asked about.
        ask: asks about one; whether to go on below it.
        jobs: folders asked about at once.
    """
    left = array("q", roots)
    limit = trio.Semaphore(jobs)
    running = 0
    ended = trio.Event()

    async def one(folder: Node) -> None:
        nonlocal running, ended
        try:
            if await ask(folder):
                left.extend(node.id for node in cache.tree.folders(folder.id))
        finally:
            running -= 1
            limit.release()
            ended.set()
            ended = trio.Event()

    passed = 0
    async with together() as nursery:
        while left or running:
            if not left:
                await ended.wait()
                continue
            folder = cache.tree.node(left.pop())
            if folder is None or not folder.current:
                continue
            if due(folder):
                await limit.acquire()
                running += 1
                nursery.start_soon(one, folder)
                continue
            left.extend(node.id for node in cache.tree.folders(folder.id))
            passed += 1
            if passed % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
