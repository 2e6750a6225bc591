"""Blocking work in threads that may be left alone: a dead NFS server holds a thread for ever.

A `Job` goes through a generator, one piece in a visit to a thread. A piece that takes longer than the
deadline is `Stalled`; the thread is left to the kernel, and closes what the generator holds open should it
ever come back. So many threads may be stuck as there are at most: whoever comes then waits for a free one, no
longer than the deadline either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import trio

from mirror.errors import Stalled

T = TypeVar("T")


class Threads:
    """Threads of one remote."""

    def __init__(self, limit: int, deadline: float) -> None:
        """``limit`` at once; none is waited for longer than ``deadline`` seconds."""
        self.deadline = deadline
        self._limiter = trio.CapacityLimiter(limit)

    async def run(self, work: Callable[[], T], where: object) -> T:
        """Run a function that holds nothing open when it ends.

        Raises:
            Stalled: it did not end within the deadline; it is left alone.
        """
        with trio.move_on_after(self.deadline):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        raise self.stalled(where)

    def stalled(self, where: object) -> Stalled:
        """What it is when nothing came of a place within the deadline."""
        return Stalled(f"{where}: not a byte within {self.deadline:g} s")


class Job(Generic[T]):
    """A generator that is gone through in threads. A context manager that never waits."""

    def __init__(self, work: Iterator[T], threads: Threads, where: object) -> None:
        """``where`` is for messages."""
        self._work = work
        self._threads = threads
        self._where = where
        self._lock = threading.Lock()
        self._busy = False
        self._left = False
        self._ended = False
        self._light = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._left = True
            idle = not self._busy and not self._ended
        if idle and self._light:
            self._close()
        elif idle:
            # Closing a file of a server that is gone may take its time as well; nobody needs to wait for it.
            trio.lowlevel.start_thread_soon(self._close, lambda _: None)

    def holds_nothing(self) -> None:
        """Note that what the generator held open is closed: to end it takes no thread."""
        self._light = True

    async def next(self) -> T | None:
        """The next piece; None at the end.

        Raises:
            Stalled: it did not come within the deadline; there will be no other.
            MirrorError: what the generator raises.
        """
        return await self._threads.run(self._next, self._where)

    def _next(self) -> T | None:
        with self._lock:
            if self._left:
                return None  # whoever asked has gone before a thread was free
            self._busy = True
        piece: T | None = None
        try:
            piece = next(self._work, None)
            return piece
        finally:
            with self._lock:
                self._busy = False
                self._ended = piece is None
            self._close_if_left()

    def _close_if_left(self) -> None:
        with self._lock:
            left = self._left
        if left:
            self._close()

    def _close(self) -> None:
        self._ended = True
        close = getattr(self._work, "close", None)
        if close is not None:
            close()
