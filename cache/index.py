"""The index on disk: how it is opened, created and brought up to date.

Every connection is made here, so that all agree on WAL mode, time-outs and foreign keys. A reader in
WAL mode never waits for the writer, which is why `Reader` may be used on the event loop.

``PRAGMA user_version`` is the version of the schema. An older index is migrated in one transaction
when it is opened; a newer one is refused, for a program that does not know a column's meaning must
not write beside it. Whether it is damaged is for `cache.damage` to say; what is met in the middle of a query
leaves a mark, so that the next start makes the index anew (`cache.opening`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from cache import damage, errors, layout
from cache.errors import CacheBroken, CacheError, CacheUnusable
from cache.migrations import MIGRATIONS

T = TypeVar("T")

NAME = layout.INDEX

VERSION = damage.VERSION
"""Of the schema in ``schema.sql``."""

BUSY_SECONDS = damage.BUSY_SECONDS
"""How long SQLite itself waits for another process's lock."""

ANEW = "it is made anew at the next start without another user"

Row = tuple[Any, ...]
"""One row; its meaning is that of the query."""


def connect(index: Path) -> sqlite3.Connection:
    """Open a connection; transactions are begun and ended by hand.

    It may be used by several threads, one at a time.
    """
    connection = sqlite3.connect(index, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def version_of(index: Path) -> int:
    """Version of the schema of an index; 0 when it is new, damaged or does not exist.

    Raises:
        CacheUnusable: it cannot be opened.
    """
    # SQLite would make a log that is missing, and nobody would see that it had been.
    if not index.exists() or damage.log_fault(index) is not None:
        return 0
    try:
        try:
            return _version_of(index)
        except sqlite3.OperationalError as exc:
            if not errors.may_be_full(exc):
                raise
            # On a full disk there is no room for the files beside it; alone it can always be read.
            return _version_of(index, alone=True)
    except damage.UNREADABLE as exc:
        if damage.is_damage(exc) or (isinstance(exc, sqlite3.Error) and damage.is_interrupted(exc)):
            return 0
        raise cannot_open(index, exc) from exc


def _version_of(index: Path, *, alone: bool = False) -> int:
    connection = damage.connect_to_read(index, alone=alone)
    try:
        return _version(connection)
    finally:
        connection.close()


def prepare(index: Path, make_room: Callable[[], bool] = lambda: False) -> None:
    """Make the index, or bring it to `VERSION`; processes that do so at once take turns.

    ``make_room`` is called when it may be that the disk is full; True: try again.

    Raises:
        CacheUnusable: it was written by a newer version, is damaged, or cannot be made.
    """
    try:
        with turn(index.parent):
            bring_up(index, make_room)
    except (OSError, *damage.UNREADABLE) as exc:
        raise cannot_open(index, exc) from exc


def bring_up(index: Path, make_room: Callable[[], bool] = lambda: False) -> None:
    """What `prepare` does, in the caller's `turn`.

    Raises:
        CacheUnusable: it was written by a newer version.
        sqlite3.DatabaseError, OSError: it is damaged, or cannot be made.
    """
    _create(index)
    try:
        _prepare(index)
    except sqlite3.OperationalError as exc:
        if not errors.may_be_full(exc) or not make_room():
            raise
        _prepare(index)


def cannot_open(index: Path, exc: OSError | sqlite3.Error | UnicodeDecodeError) -> CacheUnusable:
    """The error to raise for an index that could not be prepared."""
    if isinstance(exc, OSError):
        return CacheUnusable(f"{index} cannot be opened: {exc.strerror}: choose another cache folder")
    if damage.is_damage(exc):
        return CacheUnusable(f"{index} is damaged ({exc}): run mirror fsck")
    return CacheUnusable(f"{index} cannot be opened ({exc}): make room or choose another folder")


def failure(index: Path, exc: sqlite3.Error | UnicodeDecodeError, what: str) -> CacheError:
    """The error to raise from ``exc``, which happened while doing ``what``; damage is marked."""
    if isinstance(exc, sqlite3.Error) and not damage.is_damage(exc):
        return errors.of_sqlite(exc, what)
    damage.mark(index, str(exc))
    return CacheBroken(f"cannot {what}: it is damaged ({exc}); {ANEW}")


def _prepare(index: Path) -> None:
    connection = connect(index)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection, index)
    finally:
        connection.close()


def allocate_shared(index: Path) -> int | None:
    """Give the memory that connections share its blocks; a descriptor to keep until all are closed.

    SQLite maps that file, and writes a byte in each page of it first. Where blocks are smaller than pages
    (a small ext4), the others are still missing then, and on a full disk the next write to the page kills
    the process (SIGBUS). To be called while a connection is in use.
    """
    try:
        fd = os.open(f"{index}-shm", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    # Not closed here, come what may: that would end SQLite's locks of this process.
    with suppress(OSError):
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
    return fd


def check_version(version: int, index: Path) -> None:
    """Refuse an index of a newer program.

    Raises:
        CacheUnusable: it is one.
    """
    if version > VERSION:
        raise CacheUnusable(
            f"{index} was written by a newer version of this program (schema {version}, this one knows "
            f"{VERSION}): upgrade, or choose another cache folder"
        )


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait for others who prepare the same index: the switch to WAL mode does not wait by itself.

    The lock is on the folder, for a descriptor of the index that is closed takes SQLite's own locks
    in this process with it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _create(index: Path) -> None:
    """Nobody else may read names and URLs; SQLite gives its other files the mode of this one."""
    try:
        os.close(os.open(index, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def _migrate(connection: sqlite3.Connection, index: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        check_version(version, index)
        if version == 0:
            damage.make_schema(connection)
        elif version < VERSION:
            # Only here: it takes longer to import than all of this package, and an index is seldom old.
            from sqlite_utils import Database  # noqa: PLC0415

            db = Database(connection)
            for migration in MIGRATIONS[version - 1 :]:
                migration(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


class Reader:
    """Connections for reading. Every query is read to its end at once: no snapshot is held on to.

    Whoever asks while another query runs gets a connection of its own, so that the event loop never waits
    for a query of a thread.
    """

    def __init__(self, index: Path) -> None:
        self._index = index
        self._idle = [self._open()]
        self._closed = False
        # The number below is of one connection, and says nothing beside that of another.
        self._watch: sqlite3.Connection | None = None
        self._watching = threading.Lock()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._index)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def all(self, sql: str, *parameters: object) -> list[Row]:
        """All rows. Raises `CacheBroken` when the index cannot be read."""
        try:
            connection = self._taken()
            try:
                return connection.execute(sql, parameters).fetchall()
            finally:
                self._idle.append(connection)
                if self._closed:
                    self.close()
        except damage.UNREADABLE as exc:
            raise failure(self._index, exc, "read the index") from exc

    def made(self, make: Callable[[Row], T], sql: str, *parameters: object) -> list[T]:
        """What ``make`` makes of each row, which raises sqlite3.Error for a damaged one. Raises as `all`."""
        rows = self.all(sql, *parameters)
        try:
            return [make(row) for row in rows]
        except sqlite3.Error as exc:
            raise failure(self._index, exc, "read the index") from exc

    def _taken(self) -> sqlite3.Connection:
        if self._closed:
            raise errors.CacheBroken("the cache is closed")
        try:
            return self._idle.pop()  # one step to other threads, as `append` is
        except IndexError:
            return self._open()

    def one(self, sql: str, *parameters: object) -> Row | None:
        """The first row or None. Raises as `all` does."""
        rows = self.all(sql, *parameters)
        return rows[0] if rows else None

    def damaged(self, why: str) -> CacheBroken:
        """The error to raise for rows that contradict each other; notes it for the next start."""
        damage.mark(self._index, why)
        return CacheBroken(f"cannot read the index: {why}; {ANEW}")

    def data_version(self) -> int:
        """A number that changes when any other connection has changed the index."""
        try:
            with self._watching:
                if self._watch is None:
                    self._watch = self._open()
                version: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                return version
        except damage.UNREADABLE as exc:
            raise failure(self._index, exc, "read the index") from exc

    def close(self) -> None:
        """Close the connections; those in use when their query ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
