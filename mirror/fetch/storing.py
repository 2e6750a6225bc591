"""Where an object is written, also on a full disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from cache import CacheFull, Filler, Objects
from mirror.fetch.part import Chunk

T = TypeVar("T")

SMALL = 1024 * 1024
"""Files up to this size are gathered in memory and written at once."""
ROOM = 16 * 1024 * 1024
"""Bytes to evict at least when the disk is full although there should have been room."""
FULL_TRIES = 4
"""How often a write is tried on such a disk."""


async def write(objects: Objects, filler: Filler, at: int, chunks: list[Chunk], size: int) -> None:
    """Write ``size`` bytes; where the disk is fuller than anybody knew, others are evicted for them.

    Those that are there already, because two requests brought them, are left alone: the checksum of what was
    written first holds for runs of bytes as a whole.

    Raises:
        CacheFull: nothing may go.
        CacheBroken: the disk failed.
    """
    for start, stop in filler.present.gaps(at, at + size):
        new = chunks if stop - start == size else _slice(chunks, start - at, stop - at)
        await objects.reserve(filler, filler.present.total + stop - start)
        write = partial(filler.put, start, new, stop - start)
        await _with_room(objects, stop - start, write)


def _slice(chunks: list[Chunk], start: int, stop: int) -> list[Chunk]:
    """The bytes ``start`` to ``stop`` of what lies one behind the other."""
    pieces: list[Chunk] = []
    for chunk in chunks:
        if start < len(chunk) and stop > 0:
            pieces.append(memoryview(chunk)[max(start, 0) : max(stop, 0)])
        start, stop = start - len(chunk), stop - len(chunk)
    return pieces


async def store(objects: Objects, filler: Filler, chunks: list[Chunk], size: int) -> int:
    """Write all of a small file and complete it; returns the descriptor. Raises as `write` does."""
    await objects.reserve(filler, size)
    return await _with_room(objects, size, lambda: filler.store(chunks))


async def _with_room(objects: Objects, size: int, work: Callable[[], Awaitable[T]]) -> T:
    for _ in range(FULL_TRIES - 1):
        try:
            return await work()
        except CacheFull:
            if not await objects.free(max(ROOM, size)):
                raise
    return await work()
