"""Reads answered with a reference: the keeper takes the bytes from the object itself.

The bytes of a large incomplete file would otherwise be read here, sent through a socket and received
again, up to a mebibyte at a time, only to be copied once more into the kernel. What is known here is
that they are present and where; so only that is said.
"""

from __future__ import annotations

import logging
import os

from cache import Node, Objects
from mirror.fetch.descriptors import Descriptors, open_present
from mirror.keeper.control import MAX_REFERENCE, References

log = logging.getLogger(__name__)


class ByReference:
    """A `mirror.fetch.descriptors.Delivery` through the keeper."""

    def __init__(self, objects: Objects, references: References) -> None:
        self._objects = objects
        self._references = references
        self._bytes = Descriptors(objects)

    async def read(self, node: Node, start: int, stop: int, *, partial: bool) -> bytes | bytearray | None:
        """A reference where the keeper can have the file, else the bytes.

        Nothing is awaited before a reference is returned: see `References`.
        """
        size = stop - start
        if size <= MAX_REFERENCE and self._is_offered(node, partial=partial):
            return self._references.payload(node.id, start, size)
        return await self._bytes.read(node, start, stop, partial=partial)

    def forget(self, node: int) -> None:
        """The object was discarded, or may be; the next one of this node is another file."""
        self._bytes.forget(node)
        try:
            self._references.forget(node)
        except OSError as exc:
            log.info("the keeper takes nothing back any more: %s", exc)

    def close(self) -> None:
        """Close what is open here; the keeper closes its own."""
        self._bytes.close()

    def _is_offered(self, node: Node, *, partial: bool) -> bool:
        if node.id in self._references:
            return True
        fd = open_present(self._objects, node, partial=partial)
        if fd is None:
            return False
        try:
            self._references.offer(node.id, fd)
        except OSError as exc:  # the keeper is gone, and so shall we be
            log.info("the keeper takes no sources any more: %s", exc)
            return False
        finally:
            os.close(fd)
        return True
