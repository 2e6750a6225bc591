"""The index on disk: how it is opened, created and brought up to date.

Every connection is made here, so that all agree on WAL mode, time-outs and foreign keys. A reader in
WAL mode never waits for the writer, which is why `Reader` may be used on the event loop.

``PRAGMA user_version`` is the version of the schema. An older index is migrated in one transaction
when it is opened; a newer one is refused, for a program that does not know a column's meaning must
not write beside it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from cache import errors
from cache.errors import CacheUnusable
from cache.migrations import MIGRATIONS
from cache.scripts import statements

NAME = "index.sqlite"

VERSION = 2
"""Of the schema in ``schema.sql``."""

BUSY_SECONDS = 30.0
"""How long SQLite itself waits for another process's lock."""

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
    """Version of the schema of an index; 0 when it is new or does not exist.

    Raises:
        CacheUnusable: it is no index.
    """
    if not index.exists():
        return 0
    try:
        connection = sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", timeout=BUSY_SECONDS, uri=True)
        try:
            return _version(connection)
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        raise _damaged(index, exc) from exc


def prepare(index: Path) -> None:
    """Make the index, or bring it to `VERSION`; processes that do so at once take turns.

    Raises:
        CacheUnusable: it was written by a newer version, is damaged, or cannot be made.
    """
    try:
        with _turn(index.parent):
            _create(index)
            connection = connect(index)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                _migrate(connection, index)
            finally:
                connection.close()
    except OSError as exc:
        raise CacheUnusable(f"{index} cannot be opened: {exc.strerror}: choose another cache folder") from exc
    except sqlite3.OperationalError as exc:
        raise CacheUnusable(f"{index} cannot be opened ({exc}): make room or choose another folder") from exc
    except sqlite3.DatabaseError as exc:
        raise _damaged(index, exc) from exc


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
def _turn(folder: Path) -> Iterator[None]:
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
        db = Database(connection)
        if version == 0:
            for statement in statements(files("cache").joinpath("schema.sql").read_text("utf-8")):
                db.execute(statement)
        elif version < VERSION:
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


def _damaged(index: Path, exc: sqlite3.DatabaseError) -> CacheUnusable:
    return CacheUnusable(f"{index} is damaged ({exc}): move it away, what is cached is then fetched again")


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
        except sqlite3.Error as exc:
            raise errors.of_sqlite(exc, "read the index") from exc

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

    def data_version(self) -> int:
        """A number that changes when any other connection has changed the index."""
        try:
            with self._watching:
                if self._watch is None:
                    self._watch = self._open()
                version: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                return version
        except sqlite3.Error as exc:
            raise errors.of_sqlite(exc, "read the index") from exc

    def close(self) -> None:
        """Close the connections; those in use when their query ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
