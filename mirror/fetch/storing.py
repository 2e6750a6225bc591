"""Where an object is begun and written: on the event loop where that takes a moment, and on a full disk.

Making, writing and renaming a small file takes less time than going to a thread for it. That changes while
the disk syncs, for then the file system makes everybody wait who makes or renames one.
"""

from __future__ import annotations

import trio

from cache import CacheFull, Filler, Node, Objects
from mirror.fetch.part import Chunk

SMALL = 1024 * 1024
"""Files up to this size are gathered in memory and written at once."""
ROOM = 16 * 1024 * 1024
"""Bytes to evict at least when the disk is full although there should have been room."""
FULL_TRIES = 4
"""How often a write is tried on such a disk."""


async def begin(objects: Objects, node: Node) -> Filler | None:
    """Take the lease of a node's object; None: somebody else has it, or it is complete.

    Raises:
        CacheFull: there is no room for a file, and nothing may go.
        CacheBroken: the disk or the index failed.
    """
    try:
        return await objects.patiently(objects.fill, node)
    except CacheFull:
        # Not even an empty file: others fill the disk as well. One object's room is enough for that.
        if not await objects.free(1):
            raise
        return objects.fill(node)


async def write(objects: Objects, filler: Filler, at: int, chunks: list[Chunk], size: int) -> None:
    """Write ``size`` bytes; where the disk is fuller than anybody knew, others are evicted for them.

    Raises:
        CacheFull: nothing may go.
        CacheBroken: the disk failed.
    """
    await objects.reserve(filler, filler.present.total + size)
    for left in reversed(range(FULL_TRIES)):
        try:
            if size <= SMALL and not filler.present:
                await objects.patiently(filler.write, at, *chunks)  # all of a small file
            else:
                await trio.to_thread.run_sync(filler.write, at, *chunks)
        except CacheFull:
            if not left or not await objects.free(max(ROOM, size)):
                raise
        else:
            return
