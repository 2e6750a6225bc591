"""Whether an index is damaged or lost: what is seen at every start, and what is noted for the next one.

At every start a look that costs the same whatever the size of the index: its header, its write-ahead log,
its tables and their columns, the one row or three of those that always have so many. Once after each start
of the system also SQLite's own ``quick_check``, which reads all of it (1.3 s with 1,000,000 entries). Damage
that is met later, in the middle of a query, leaves a mark for the next start.

An index without pages that contradict each other is believed. Bytes that rot in it so that another
valid value results are not seen by SQLite either.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

from cache.layout import has_objects
from cache.scripts import statements

VERSION = 3
"""Of the schema in ``schema.sql``."""

BUSY_SECONDS = 30.0
"""How long SQLite itself waits for another process's lock."""

MARK = "index.damaged"
"""A file of this name says that the index beside it is damaged, and why."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", b"\0\0\0\0")
"""How a log begins; with zeros where the power went before its header was written."""
_WAL_HEADER = 32
_LAST_ID = 1 << 62

_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_EXTENDED = (
    sqlite3.SQLITE_IOERR_SHORT_READ,
    # Nothing here is ever added without a look whether it is there: the look saw something else.
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
)
_WORDS = re.compile(r"no such (table|column|kind)|Could not decode to UTF-8|has no column named", re.ASCII)
"""What Python, SQLite or we say without a code of its own when a schema, text or row is not what it was."""


UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What a query raises; the latter where SQLite quotes a damaged name in its message."""


def is_damage(exc: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether an error of `UNREADABLE` means that the index is not what was written to it."""
    if isinstance(exc, UnicodeDecodeError):
        return True
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None and (code & 0xFF in _CODES or code in _EXTENDED):
        return True
    return _WORDS.match(str(exc)) is not None


def mark(index: Path, why: str) -> None:
    """Have the next start that is alone with the cache make the index anew. Never fails."""
    with suppress(OSError):
        fd = os.open(index.parent / MARK, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(why)


def seen(index: Path, *, whole: bool = False) -> str | None:
    """What is wrong with an index, in a few words; None: nothing that was looked at. Nobody may change it.

    Args:
        index: its file.
        whole: look at all pages, as after a start of the system.

    Raises:
        sqlite3.OperationalError: it cannot be opened, for a reason that says nothing about it.
        OSError: the same of the folder.
    """
    with suppress(FileNotFoundError):
        return (index.parent / MARK).read_text("utf-8", "replace").strip() or "it is marked as damaged"
    if not index.exists():
        left = has_objects(index.parent) or Path(f"{index}-wal").exists()
        return "it is missing" if left else None
    wal = log_fault(index)
    if wal is not None:
        return wal
    try:
        try:
            with closing(connect_to_read(index)) as db:
                return _fault(db, index.parent, whole=whole)
        except sqlite3.OperationalError as exc:
            if not is_interrupted(exc):
                raise
            with closing(sqlite3.connect(index, timeout=BUSY_SECONDS)) as db:
                return _fault(db, index.parent, whole=whole)
    except UNREADABLE as exc:
        if is_damage(exc):
            return str(exc)
        raise


def is_interrupted(exc: sqlite3.Error) -> bool:
    """Whether an index cannot be read because its making was cut short: whoever may write rolls it back.

    Until it is in WAL mode SQLite keeps a journal, which a process that was killed leaves.
    """
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def boot_id() -> str | None:
    """What tells one start of the system from another; None: it does not say."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def connect_to_read(index: Path, *, alone: bool = False) -> sqlite3.Connection:
    """A connection that changes nothing, not even on its way out. Raises sqlite3.Error.

    ``alone``: without a look at the files beside it, which may be missing.
    """
    uri = f"{index.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    return sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)


# -- the looks -----------------------------------------------------------------------------------


def log_fault(index: Path) -> str | None:
    """What is wrong with the write-ahead log: it was taken away, or is none. To be asked before SQLite is.

    SQLite removes the log after its ``-shm`` file, and makes it before: so one without it has lost the
    transactions in it, and with them deletions that must not come undone.
    """
    wal = Path(f"{index}-wal")
    try:
        with wal.open("rb") as file:
            head = file.read(_WAL_HEADER)
    except FileNotFoundError:
        # Asked for again: another process may have opened or closed the index in between.
        lost = Path(f"{index}-shm").exists() and not wal.exists()
        return "its write-ahead log is missing" if lost else None
    if len(head) == _WAL_HEADER and head[:4] not in _WAL_MAGIC:
        return "its write-ahead log is damaged"
    return None


def _fault(db: sqlite3.Connection, cache: Path, *, whole: bool) -> str | None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < 0:
        return "its version is damaged"
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema")]
    if version == 0:
        if names:
            return "its version is lost"
        return "it is empty" if has_objects(cache) else None
    if version != VERSION:
        return None  # migrated, or refused, by somebody else
    if _shape(db) != _right_shape():
        return "its tables are not what they were"
    queues = [row[0] for row in db.execute("SELECT queue FROM queues ORDER BY queue")]
    space = db.execute("SELECT id, boot FROM space").fetchall()
    if queues != [0, 1, 2] or len(space) != 1:
        return "rows that are always there are missing"
    (last,) = db.execute("SELECT max(id) FROM nodes").fetchone()
    sequence = [row[0] for row in db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'")]
    if last is not None and (len(sequence) != 1 or not last <= sequence[0] < _LAST_ID):
        return "its last id is damaged"
    if whole or space[0][1] not in (None, boot_id()):
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            return str(said).splitlines()[0]
    return None


def _shape(db: sqlite3.Connection) -> list[object]:
    """Tables, columns, keys and indexes, and the text of triggers; that of tables changes by migration."""
    found: list[object] = []
    rows = db.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    )
    for kind, name, sql in rows.fetchall():
        found.append((kind, name, " ".join(sql.split()) if kind == "trigger" else None))
        if kind != "trigger":
            found += db.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
            found += db.execute("SELECT * FROM pragma_index_xinfo(?)", (name,)).fetchall()
    return found


@cache
def _right_shape() -> list[object]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        make_schema(db)
        return _shape(db)


def make_schema(db: sqlite3.Connection) -> None:
    """Make all tables of `VERSION` in an empty index."""
    for statement in statements(files("cache").joinpath("schema.sql").read_text("utf-8")):
        db.execute(statement)
