"""The file system without FUSE: what a look-up, an open and a read mean.

Everything here is in terms of nodes of the index and raises leaves of :mod:`mirror.errors`, so all
of it runs in a test without a mount. :mod:`mirror.fuse` only converts types.

There is no state per open handle: a handle is its node's id. Which handles the kernel serves by
itself is decided in the keeper; here an open only makes sure, as far as its mode asks for it, that
the file is complete and that the keeper has its backing file before the open is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cache import Entry, Kind, Node
from mirror.config import OpenMode
from mirror.errors import IsAFolder, NoSpace
from mirror.fetch import Fetcher, Priority
from mirror.namespace import Namespace


@dataclass(slots=True)
class Counters:
    """Requests of applications that reached us; the kernel answers the others."""

    lookups: int = 0
    attributes: int = 0
    listings: int = 0
    opens: int = 0
    reads: int = 0
    bytes_read: int = 0


class FileSystem:
    """One source as a read-only tree."""

    def __init__(
        self,
        namespace: Namespace,
        fetcher: Fetcher,
        *,
        open_mode: OpenMode,
        open_wait_bytes: int,
        used: Callable[[int], None] = lambda _folder: None,
        expected: Callable[[Sequence[Node]], None] = lambda _files: None,
    ) -> None:
        """Serve ``namespace``; ``used(folder)`` is called when names in a folder are given out.

        ``expected(files)`` is called with files of one folder that somebody is about to look up, as the index
        has them.
        """
        self.namespace = namespace
        self.counters = Counters()
        self._fetcher = fetcher
        self._open_mode = open_mode
        self._open_wait_bytes = open_wait_bytes
        self._used = used
        self._expected = expected

    @property
    def root(self) -> Node:
        """The folder that the mountpoint shows."""
        return self.namespace.root

    async def lookup(self, folder: int, name: str) -> Node:
        """The node of a name, a file's size known.

        Raises:
            NotFound: the name does not exist as far as the origin has told.
            MirrorError: it cannot be found out now.
        """
        self.counters.lookups += 1
        self._used(folder)
        return await self._sized(await self.namespace.lookup(folder, name))

    async def attributes(self, node: int) -> Node:
        """The node of an id, a file's size known; superseded versions keep their attributes."""
        self.counters.attributes += 1
        known = self.namespace.node(node)
        if known.size is None and known.kind is Kind.FILE:
            return await self._sized(await self.namespace.fresh(known))
        return known

    async def list_folder(self, folder: int, after: int, limit: int) -> list[Node]:
        """Entries behind ``after`` (a `Node.entry`, 0 from the start), at most ``limit``.

        A listing that has begun goes on from the index even when it outlives the TTL, so that no
        entry is skipped or shown twice. Sizes may be unknown.

        Raises:
            MirrorError: as `lookup`, and `NotAFolder`.
        """
        self.counters.listings += 1
        if after == 0:
            self._used(folder)
            await self.namespace.listed(folder)
        return self.namespace.children(folder, after, limit)

    async def open(self, node: int) -> None:
        """Prepare a file for reading; on return its handle may be given out.

        Raises:
            IsAFolder: it is one.
            VersionChanged: the node's version is gone; looking the name up again finds the new one.
            MirrorError: the mode asks to wait for the file and it cannot be fetched.
        """
        self.counters.opens += 1
        file = self.namespace.node(node)
        if file.kind is Kind.FOLDER:
            raise IsAFolder(file.name)
        if ahead := self._fetcher.opened(file):
            self._used(file.parent)
            self._expected(ahead)
        if await self._fetcher.complete(file):
            return
        if self._waits_for(file):
            try:
                await self._fetcher.start(file, Priority.DEMAND).whole(Priority.DEMAND)
            except NoSpace:
                return  # reads are served past the cache
        elif self._fetcher.fetches_whole(file):
            self._fetcher.start(file, Priority.DEMAND)

    async def read(self, node: int, offset: int, size: int) -> bytes | bytearray:
        """Bytes of a file; fewer than ``size`` only at its end.

        Raises:
            VersionChanged: the rest of this version cannot be had any more.
            MirrorError: the bytes cannot be had now.
        """
        self.counters.reads += 1
        file = self.namespace.node(node)
        data = await self._fetcher.read(file, offset, size)
        # Not the length of the data: it may only say where the bytes are.
        self.counters.bytes_read += size if file.size is None else max(0, min(size, file.size - offset))
        return data

    def _waits_for(self, file: Node) -> bool:
        if self._open_mode is OpenMode.AUTO:
            return file.size is None or file.size <= self._open_wait_bytes
        return self._open_mode is OpenMode.WAIT

    async def _sized(self, node: Node) -> Node:
        """The node with its size known: where no header tells it, by fetching the file once."""
        if node.kind is Kind.FOLDER or node.size is not None:
            return node
        await self._fetcher.whole(node)
        size = self._fetcher.size(node)
        return await self.namespace.saw(
            node, Entry(node.name, node.kind, size, node.mtime_ns, node.mtime_resolution_ns, node.validator)
        )
