"""Reads that come through us: of large files that were opened before they were complete.

`Delivery` is how the bytes of a read get to whoever asked; `Descriptors` reads them here and returns
them. What the page cache holds is read at once on the event loop (``RWF_NOWAIT``); only a read that
has to wait for the disk goes to a thread.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from typing import Protocol

import trio

from cache import CacheError, Node, Objects

log = logging.getLogger(__name__)

DESCRIPTORS = 64
"""Objects kept open for readers that read through us."""


class Delivery(Protocol):
    """How the bytes of objects get to their readers."""

    async def read(self, node: Node, start: int, stop: int, *, partial: bool) -> bytes | bytearray | None:
        """What answers a read of a range, or None when the object cannot be opened.

        Only a complete object is opened unless ``partial`` says that a fill of this process is under
        way and that the range is present: what is missing of an object reads as zeros.
        """

    def forget(self, node: int) -> None:
        """The object may be gone, or shall go; another one may get its name."""

    def close(self) -> None:
        """Close all that is open."""


class Descriptors:
    """Objects open for reading, least recently used ones closed first.

    A read that has to wait for the disk runs in a thread; a descriptor is only closed while no
    thread reads from it.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._open: OrderedDict[int, _Descriptor] = OrderedDict()

    async def read(self, node: Node, start: int, stop: int, *, partial: bool) -> bytearray | None:
        """The bytes themselves; see `Delivery`."""
        descriptor = self._open.get(node.id)
        if descriptor is None:
            fd = open_present(self._objects, node, partial=partial)
            if fd is None:
                return None
            descriptor = self._open[node.id] = _Descriptor(fd)
        self._open.move_to_end(node.id)
        while len(self._open) > DESCRIPTORS:
            self._open.popitem(last=False)[1].close()
        return await descriptor.read(start, stop - start)

    def forget(self, node: int) -> None:
        """The object may be gone; open it anew next time."""
        descriptor = self._open.pop(node, None)
        if descriptor is not None:
            descriptor.close()

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


def open_present(objects: Objects, node: Node, *, partial: bool) -> int | None:
    """A descriptor of an object that is complete, or also of an incomplete one; None: there is none."""
    try:
        fd = objects.open_complete(node)
        return objects.partials.open(node) if fd is None and partial else fd
    except CacheError as exc:
        log.warning("%s: %s", node.name, exc)
        return None


class _Descriptor:
    __slots__ = ("_closing", "_fd", "_readers")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._readers = 0
        self._closing = False

    async def read(self, offset: int, size: int) -> bytearray | None:
        """Exactly ``size`` bytes, or None: the file is shorter than it should be."""
        data = bytearray(size)
        done = self._cached(data, offset)
        if done < size:
            self._readers += 1
            try:
                done += await trio.to_thread.run_sync(self._blocking, memoryview(data)[done:], offset + done)
            finally:
                self._readers -= 1
                if self._closing:
                    self.close()
        return data if done == size else None

    def _cached(self, data: bytearray, offset: int) -> int:
        """Read what the page cache has, without waiting for the disk."""
        try:
            return os.preadv(self._fd, [data], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in the page cache; EOPNOTSUPP: not on this file system
            return 0

    def _blocking(self, data: memoryview, offset: int) -> int:
        done = 0
        while done < len(data):
            count = os.preadv(self._fd, [data[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def close(self) -> None:
        self._closing = True
        if not self._readers and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
