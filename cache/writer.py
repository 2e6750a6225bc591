"""The one writer of the index in this process: a thread that commits work in batches.

Whatever has gathered while a transaction was being committed goes into the next one. Everybody who
submits work is answered after the commit, never before: a node id that was handed out exists.
Processes take turns by ``BEGIN IMMEDIATE``; one that finds the index locked waits and tries again, so
"database is locked" is nobody's error.

A piece of work that fails is undone by its savepoint and leaves the others of its batch alone.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import trio

from cache import damage, errors, index
from cache.errors import CacheBroken

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 500
"""Most pieces of work in one transaction."""
TRIES = 20
"""How often the lock is waited for, `index.BUSY_SECONDS` each, before the index counts as broken."""

Work = Callable[[sqlite3.Connection], T]


class _Job:
    """One piece of work and who waits for it."""

    __slots__ = ("durable", "future", "work")

    def __init__(self, work: Work[Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.future: Future[Any] = Future()


class Writer:
    """Runs functions of a connection in its thread, in order, each committed before it is answered."""

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False) -> None:
        """``make_room`` is called, in the thread, when there is no room for a batch; True: try again."""
        self._make_room = make_room
        self._index = path
        self._connection = index.connect(path)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        # A daemon: a process that ends without closing the cache is a crash like any other to it.
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], *, durable: bool = False) -> Future[T]:
        """Queue ``work``; the future is done once it is committed.

        ``durable`` work is on disk by then, and so is everything committed before it; other work
        may be undone by a power cut, though never out of order.

        Raises:
            CacheBroken: the writer is closed. The future raises what the work raises, and
                `CacheFull` or `CacheBroken` when the index cannot be written.
        """
        job = _Job(work, durable)
        with self._lock:
            if self._closed:
                raise CacheBroken("the cache is closed")
            self._jobs.put(job)
        return job.future

    async def run(self, work: Work[T], *, durable: bool = False) -> T:
        """`submit`, and wait without blocking the event loop. When cancelled, the work is still done."""
        return await result_of(self.submit(work, durable=durable))

    def close(self) -> None:
        """Do what is queued, then end the thread. Blocks."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                self._commit(batch)

    def _gather(self) -> tuple[list[_Job], bool]:
        """Wait for work; returns what there is of it, and False once there will be no more."""
        batch: list[_Job] = []
        try:
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == BATCH:
                    return batch, True
                job = self._jobs.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        try:
            try:
                answers = self._transaction(batch)
            except sqlite3.Error as exc:
                if not errors.may_be_full(exc) or not self._make_room():
                    raise
                answers = self._transaction(batch)
        except damage.UNREADABLE as exc:
            for job in batch:
                error = index.failure(self._index, exc, "write the index")
                error.__cause__ = exc
                job.future.set_exception(error)
            return
        for job, (value, failure) in zip(batch, answers, strict=True):
            if failure is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(failure)

    def _transaction(self, batch: list[_Job]) -> list[tuple[Any, Exception | None]]:
        """The answers of a batch that is committed. Raises sqlite3.Error: nothing of it is."""
        durable = any(job.durable for job in batch)
        try:
            if durable:
                self._connection.execute("PRAGMA synchronous = FULL")
            self._begin()
            answers = [self._attempt(job) for job in batch]
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")
        return answers

    def _begin(self) -> None:
        for _ in range(TRIES - 1):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                log.warning("another process has held the index for %.0f s; waiting on", index.BUSY_SECONDS)
            else:
                return
        self._connection.execute("BEGIN IMMEDIATE")

    def _attempt(self, job: _Job) -> tuple[Any, Exception | None]:
        """The work's answer or its failure.

        Raises:
            sqlite3.Error: SQLite gave up the whole transaction.
        """
        self._connection.execute("SAVEPOINT job")
        try:
            value = job.work(self._connection)
        except Exception as exc:
            if not self._connection.in_transaction or _is_full(exc):
                raise
            self._connection.execute("ROLLBACK TO job")
            if isinstance(exc, damage.UNREADABLE):
                error = index.failure(self._index, exc, "write the index")
                error.__cause__ = exc
                return None, error
            return None, exc
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE job")
        return value, None


def _is_full(exc: Exception) -> bool:
    return isinstance(exc, sqlite3.Error) and errors.may_be_full(exc)


async def result_of(future: Future[T]) -> T:
    """What a future of another thread brings, without blocking the event loop."""
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()
    future.add_done_callback(lambda _: _wake(token, done))
    await done.wait()
    return future.result()


def _wake(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    """Set an event of a trio run from any thread; nothing happens when the run is over."""
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        log.debug("nobody waits any more")
