"""Reading what is there of objects that are not complete, whoever fills them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cache import errors, rows
from cache.extents import Extents
from cache.held import Held, HeldState
from cache.index import Reader
from cache.model import Node
from cache.names import Names, open_read, trustworthy
from cache.rows import ObjectRow

_READABLE = (HeldState.FILLING, HeldState.CLOSED, HeldState.COMPLETE)


class Partials:
    """The incomplete objects of one cache."""

    def __init__(self, names: Names, reader: Reader, held: Mapping[bytes, Held]) -> None:
        """``held``: the objects that this process holds, by key. It changes, also in other threads."""
        self._names = names
        self._reader = reader
        self._held = held

    def open(self, node: Node) -> int | None:
        """Open an incomplete object for reading; None when nothing is known to be in it.

        What can be read from the descriptor is what `Objects.state` says *before* this call: another process
        may since have discarded the file and begun another. `read` does both at once.

        Raises:
            CacheBroken: the index fails, or this process has no descriptors left.
        """
        held = self._held.get(node.key)
        if held is not None and held.state in _READABLE:
            inode = held.lease.inode
        else:
            row = rows.get(self._reader, node.id)
            if row is None:
                return None
            inode = row.inode
        paths = self._names.of(node.key)
        for path in (paths.part, paths.final):  # in the order in which it has them
            fd = open_read(path)
            if fd is None:
                continue
            status = os.fstat(fd)
            if status.st_ino == inode and trustworthy(status):
                return fd
            os.close(fd)
        return None

    def read(self, node: Node, offset: int, size: int) -> bytes | None:
        """Read from an incomplete object; None unless all the bytes are there. Blocks.

        Raises as `open` does.
        """
        fd = self.open(node)
        if fd is None:
            return None
        try:
            # The extents are asked for after the file was opened and belong to the same one.
            inode = os.fstat(fd).st_ino
            held = self._held.get(node.key)
            if held is not None and held.lease.inode == inode:
                present = held.present.copy()
            else:
                # In this order: sealing deletes the extents, and the row then says that all is there.
                extents = self._runs(node)
                row = rows.get(self._reader, node.id)
                if row is None or row.inode != inode:
                    return None
                present = Extents([(0, row.size or 0)]) if row.sealed else extents
            if not present.covers(offset, offset + size):
                return None
            data = os.pread(fd, size, offset)
        except OSError as exc:
            raise errors.of_os(exc, f"read {node.name} from the cache") from exc
        finally:
            os.close(fd)
        return data if len(data) == size else None

    def extents(self, node: Node, row: ObjectRow) -> Extents:
        """The extents that the index has, if they are of the file that is there."""
        try:
            status = os.lstat(self._names.of(node.key).part)
        except OSError:
            return Extents()
        extents = self._runs(node)
        fits = status.st_ino == row.inode and extents.stop <= status.st_size
        return extents if fits else Extents()

    def _runs(self, node: Node) -> Extents:
        return Extents((run.start, run.stop) for run in rows.runs(self._reader, node.id))
