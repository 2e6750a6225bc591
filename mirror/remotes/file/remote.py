"""The remote of a folder on this machine. See `mirror.remotes.base.Remote`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from mirror.remotes.base import Asked, Entry, Listing, NotModified
from mirror.remotes.file import reading
from mirror.remotes.file.jobs import Job, Threads
from mirror.remotes.file.part import FilePart, first
from mirror.remotes.file.root import Root
from mirror.remotes.file.small import AskedFile, SmallReaders
from mirror.remotes.listings.rows import LeftOut
from mirror.remotes.names import to_url

FOLDERS_TOLD = 1024
"""Folders whose left-out names were logged and are not logged again."""


class FileRemote:
    """One folder and what is below it. Nothing is kept open between two questions."""

    def __init__(
        self,
        url: str,
        path: str,
        *,
        deadline: float = 30.0,
        threads: int = 16,
        cache: Path | None = None,
        exact: bool = True,
    ) -> None:
        """Prepare; nothing is looked at before the first question.

        Args:
            url: the source in canonical form.
            path: the folder.
            deadline: seconds without a byte after which the file system counts as stalled.
            threads: most questions at once, and as many small files; further ones wait for their turn.
            cache: the folder of the cache for it, which must not be a part of the source.
            exact: versions differ in inode number and ctime too.
        """
        self._root = Root(url, path, cache)
        self._exact = exact
        self._threads = Threads(threads, deadline)
        self._small = SmallReaders(threads)
        self._told: set[str] = set()
        self.requests = 0
        """Questions asked so far, whatever became of them."""

    @property
    def url(self) -> str:
        """The source in canonical form: the key of everything cached from it."""
        return self._root.url

    async def aclose(self) -> None:
        """End the threads that read small files. Those that are held up are left alone."""
        self._small.close()

    def address(self, path: str) -> str:
        """See `mirror.remotes.base.Addressed.address`."""
        return f"{self._root.url}{to_url(path)}"

    async def list(self, path: str, validator: str | None = None) -> Listing | NotModified:
        """List one folder. A folder's own time says nothing of the files in it, so it is always read anew."""
        del validator
        self.requests += 1
        where = self._where(path)
        left_out = LeftOut(where)
        told = path in self._told

        def note(name: str, why: str) -> None:
            if not told:
                left_out.add(name, why)
                self._told.add(path)

        if len(self._told) >= FOLDERS_TOLD:
            self._told.clear()
        found: list[Entry] = []
        with Job(reading.entries(self._root, path, note, exact=self._exact), self._threads, where) as job:
            while (page := await job.next()) is not None:
                found = page or found
        left_out.report()
        return Listing(found)

    async def stat(self, path: str) -> Entry:
        """Look at one file. See `mirror.remotes.base.Remote.stat`."""
        self.requests += 1
        work = partial(reading.look, self._root, path, exact=self._exact)
        return await self._threads.run(work, self._where(path))

    @asynccontextmanager
    async def open_part(
        self, path: str, start: int = 0, stop: int | None = None, *, validator: str | None = None
    ) -> AsyncIterator[FilePart]:
        """Read bytes of a file. See `mirror.remotes.base.Remote.open_part`."""
        self.requests += 1
        work = reading.read(self._root, path, start, stop, validator, exact=self._exact)
        with Job(work, self._threads, self._where(path)) as job:
            head = await first(job, path)
            if len(head.first) == head.stop - head.start:
                job.holds_nothing()
            name = path.rpartition("/")[2]
            yield FilePart(head, reading.file_entry(name, head.status, exact=self._exact), job)

    async def begin(self, path: str, validator: str | None, told: Callable[[Asked], None]) -> Asked | None:
        """Read a small file with nobody waiting for it. See `mirror.remotes.base.Bulk.begin`."""
        seen = self._root.seen
        if seen is None:
            return None  # whoever opens a file judges the root first
        asked = AskedFile(
            partial(self.open_part, path, validator=validator),
            partial(self._threads.stalled, self._where(path)),
            path.rpartition("/")[2],
            validator,
            told,
            exact=self._exact,
        )
        if not self._small.begin(asked, self._root.path, seen, path):
            return None
        self.requests += 1
        return asked

    def _where(self, path: str) -> str:
        return f"{self._root.path}/{path}" if path else self._root.path
