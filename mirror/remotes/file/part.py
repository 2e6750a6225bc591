"""What an open file brings. See `mirror.remotes.base.Part`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cache import Entry
from cache.digests import Digest
from mirror.errors import NotFound
from mirror.remotes.file.jobs import Job
from mirror.remotes.file.reading import Head


class FilePart:
    """The `mirror.remotes.base.Part` of an open file."""

    __slots__ = ("_first", "_job", "_left", "digest", "entry", "ranges", "size", "start", "stop")

    def __init__(
        self, head: Head, entry: Entry, job: Job[Head | bytes] | None, digest: Digest | None = None
    ) -> None:
        """``job``: brings what follows the head; None: nothing is to be read from here."""
        self.start = head.start
        self.stop: int | None = head.stop
        self.size: int | None = head.status.st_size
        self.entry = entry
        self.ranges = True
        self.digest = digest
        self._first = head.first
        self._job = job
        self._left = head.stop - head.start

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        chunk: Head | bytes | None
        if self._first:
            chunk, self._first = self._first, b""
        else:
            chunk = await self._job.next() if self._job is not None else None
        if not isinstance(chunk, bytes):
            raise StopAsyncIteration
        self._left -= len(chunk)
        return chunk


async def first(job: Job[Head | bytes], path: str) -> Head:
    """The head of a file that is read."""
    head = await job.next()
    if not isinstance(head, Head):
        raise NotFound(path)  # never: a reader's first piece is its head, or an error
    return head
