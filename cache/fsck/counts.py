"""Rows that follow from others: references, sums by queue, claims. And the modes of folders."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from cache.fsck.result import Result
from cache.layout import CLAIMS, INDEX, OBJECTS, object_folders
from cache.writer import Writer

_WITHOUT_PARENT = (
    ("objects", "node NOT IN (SELECT id FROM nodes)"),
    ("extents", "node NOT IN (SELECT node FROM objects)"),
    ("ghosts", "node NOT IN (SELECT id FROM nodes)"),
    ("pins", "source NOT IN (SELECT id FROM nodes)"),
    ("recalls", "node NOT IN (SELECT id FROM nodes)"),
)
_OF_SEALED = "node IN (SELECT node FROM objects WHERE sealed_at IS NOT NULL)"
_SUMS = """
    SELECT queue, (SELECT count(*) FROM objects WHERE objects.queue = queues.queue),
           (SELECT coalesce(sum(occupied), 0) FROM objects WHERE objects.queue = queues.queue)
    FROM queues
"""


def check_modes(cache: Path, result: Result) -> None:
    """Take from others the right to write into our folders and files. Raises OSError."""
    folders = [Path(folder) for folder in object_folders(cache)]
    for path in (cache, cache / OBJECTS, cache / CLAIMS, cache / INDEX, *folders):
        with suppress(FileNotFoundError):
            status = path.stat()
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if status.st_uid != os.geteuid() or not others:
                continue
            if not result.dry_run:
                path.chmod(stat.S_IMODE(status.st_mode) & ~others)
            result.add(
                "mode",
                f"others may write to {path}",
                "taken from them; run mirror verify, for bytes may have been changed",
            )


def check_references(db: sqlite3.Connection, writer: Writer | None, result: Result) -> None:
    """Delete rows about objects and names that there are none of.

    Args:
        db: to read from.
        writer: None: nothing is changed.
        result: where it is noted.

    Raises:
        CacheError: the index cannot be written.
        sqlite3.Error: it cannot be read.
    """
    for table, where in (*_WITHOUT_PARENT, ("extents", _OF_SEALED)):
        (count,) = db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()  # noqa: S608
        if count:
            _run(writer, f"DELETE FROM {table} WHERE {where}")  # noqa: S608 - both are ours
            result.add("row", f"{count:,} rows of {table} are about nothing", "deleted")


def check_sums(db: sqlite3.Connection, writer: Writer | None, result: Result) -> None:
    """Set the sums by queue to what they should be. Arguments and errors as of `check_references`."""
    wrong = db.execute(f"SELECT queue, objects, bytes FROM queues EXCEPT {_SUMS}")  # noqa: S608 - ours
    for queue, objects, bytes_ in wrong.fetchall():
        what = f"queue {queue} is said to have {objects:,} objects of {bytes_:,} bytes"
        _run(writer, f"REPLACE INTO queues {_SUMS}")
        result.add("sum", what, "counted again")


def check_claims(cache: Path, db: sqlite3.Connection, writer: Writer | None, result: Result) -> None:
    """Free claims whose file is gone, and so their process. Arguments and errors as of `check_references`."""
    for name, bytes_ in db.execute("SELECT name, bytes FROM claims").fetchall():
        if "/" in name or not (cache / CLAIMS / name).exists():
            _run(writer, "DELETE FROM claims WHERE name = ?", name)
            result.add("claim", f"{bytes_:,} bytes are claimed by a process that is gone", "freed")


def _run(writer: Writer | None, sql: str, *parameters: object) -> None:
    if writer is not None:
        # Rows about bytes among them: that they are gone must not come undone.
        writer.submit(lambda db: db.execute(sql, parameters), durable=True).result()
