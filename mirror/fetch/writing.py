"""Writing what came to an object, also where the disk is fuller than anybody knew."""

from __future__ import annotations

import trio

from cache import CacheFull, Filler, Objects
from mirror.fetch.part import Chunk

SMALL = 1024 * 1024
"""Files up to this size are gathered in memory and written at once."""
ROOM = 16 * 1024 * 1024
"""Bytes to evict at least when the disk is full although there should have been room."""
FULL_TRIES = 4
"""How often a write is tried on such a disk."""


async def written(objects: Objects, filler: Filler, at: int, chunks: list[Chunk], size: int) -> None:
    """Write ``chunks``, ``size`` bytes in all, from ``at`` on; evicts others for it where there is no room.

    Raises:
        CacheFull: there is none, and nothing may go.
        CacheBroken: the disk failed.
    """
    await objects.reserve(filler, filler.present.total + size)
    for left in reversed(range(FULL_TRIES)):
        try:
            if size <= SMALL and not filler.present:
                filler.write(at, *chunks)  # all of a small file
            else:
                await trio.to_thread.run_sync(filler.write, at, *chunks)
        except CacheFull:
            if not left or not await objects.free(max(ROOM, size)):
                raise
        else:
            return
