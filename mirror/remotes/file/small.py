"""Small files that are read with nobody waiting: `_readers`' threads, and what is made of what they bring.

To read a small file takes less time than one change of thread in Python, and a task for it takes several of
them. So the calls are made on threads that need no interpreter, and only what is plain is taken from them:
all bytes of the very version that was asked for, on a path without links, in the file system of the root.
What anything else is, `FileRemote.open_part` finds out as it does for every file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from errno import ECANCELED
from types import TracebackType

import trio

from mirror.errors import Stalled
from mirror.remotes.base import Asked, Part
from mirror.remotes.file import _readers
from mirror.remotes.file.part import FilePart
from mirror.remotes.file.reading import CHUNK, Head, Told, file_entry

SMALL = CHUNK
"""Most bytes of a file that is read so; of a larger one a mebibyte at a time can be used as it comes."""


class SmallReaders:
    """The threads of one remote, and who is told of what they read."""

    def __init__(self, limit: int) -> None:
        """``limit``: how many threads there are at most; they begin when they are first needed."""
        self._limit = limit
        self._threads: _readers.Readers[AskedFile] | None = None
        self._usable = True
        """Threads are there, or may be made."""
        self._hearing = trio.CancelScope()

    def begin(self, asked: AskedFile, root: str, seen: tuple[int, int], path: str) -> bool:
        """Have a file read, and the `AskedFile` told of it; False: that cannot be done here.

        Args:
            asked: who is told, on the event loop.
            root: path of the source's root.
            seen: device and inode of the folder that is to be there.
            path: of the file, from there.
        """
        threads = self._threads or self._started()
        if threads is None:
            return False
        asked.submitted(threads, threads.begin(root, *seen, path, SMALL, asked))
        return True

    def close(self) -> None:
        """Cancel what is under way, of which is told at once, and leave the threads to themselves."""
        self._usable = False
        self._hearing.cancel()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()
            self._tell(threads)

    def _started(self) -> _readers.Readers[AskedFile] | None:
        self._usable = self._usable and _readers.usable()
        if not self._usable:
            return None
        self._threads = _readers.Readers(self._limit)
        trio.lowlevel.spawn_system_task(self._hear, self._threads)
        return self._threads

    async def _hear(self, threads: _readers.Readers[AskedFile]) -> None:
        try:
            with self._hearing:
                while True:
                    await trio.lowlevel.wait_readable(threads.fileno())
                    self._tell(threads)
        finally:
            self.close()

    def _tell(self, threads: _readers.Readers[AskedFile]) -> None:
        for _, asked in threads.done():
            asked.came()


class AskedFile:
    """The `mirror.remotes.base.Asked` of one file."""

    __slots__ = ("_exact", "_name", "_open", "_stalled", "_threads", "_told", "_validator", "_whole")

    def __init__(
        self,
        open_part: Callable[[], AbstractAsyncContextManager[Part]],
        stalled: Callable[[], Stalled],
        name: str,
        validator: str | None,
        told: Callable[[Asked], None],
        *,
        exact: bool,
    ) -> None:
        """Prepare.

        Args:
            open_part: opens the file, and says what is wrong with it.
            stalled: what it is if it was waited for no longer.
            name: of its entry.
            validator: of the version that is asked for; None: any will do.
            told: called once it was read, or cannot be.
            exact: how versions are told apart.
        """
        self._open = open_part
        self._stalled = stalled
        self._name = name
        self._validator = validator
        self._told = told
        self._exact = exact
        self._threads: _readers.Readers[AskedFile] | None = None
        self._whole: _readers.Whole | None = None

    def submitted(self, threads: _readers.Readers[AskedFile], whole: _readers.Whole) -> None:
        """Note who reads it."""
        self._threads, self._whole = threads, whole

    def came(self) -> None:
        """Pass on that it is there, or is not to be had."""
        self._told(self)

    def cancel(self) -> None:
        """See `mirror.remotes.base.Asked.cancel`."""
        if self._threads is not None and self._whole is not None:
            self._threads.cancel(self._whole)

    def plain(self) -> tuple[FilePart, memoryview] | None:
        """See `mirror.remotes.base.Asked.plain`."""
        whole = self._whole
        if whole is None or (part := self._part(whole, b"")) is None:
            return None
        return part, memoryview(whole)

    def close(self) -> None:
        """See `mirror.remotes.base.Asked.close`."""
        self._whole = None

    def open(self) -> AbstractAsyncContextManager[Part]:
        """See `mirror.remotes.base.Asked.open`.

        What is here is not read again, and what was waited for too long is not waited for again.
        """
        whole, self._whole = self._whole, None
        if whole is not None:
            if whole.error == ECANCELED:
                return _Late(self._stalled())
            if (part := self._part(whole, bytes(memoryview(whole)))) is not None:
                return nullcontext(part)
        return self._open()

    def _part(self, whole: _readers.Whole, data: bytes) -> FilePart | None:
        """What was read, as a part that brings so much of it; None: it is not what was asked for."""
        if whole.error:
            return None
        status = Told(*whole.status)
        entry = file_entry(self._name, status, exact=self._exact)
        if self._validator not in (None, entry.validator):
            return None
        return FilePart(Head(status, 0, status.st_size, data), entry, None)


class _Late(AbstractAsyncContextManager[Part]):
    """What was not read in time."""

    def __init__(self, error: Stalled) -> None:
        self._error = error

    async def __aenter__(self) -> Part:
        raise self._error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
