"""The rows about objects: what the index says of the bytes that are safely on disk.

Functions that take a connection run in the writer's thread, within its transaction. Rows are written
after the bytes that they are about, and deleted, durably, before another file can take the name that
they are about: `DELETE` is the one kind of change that must not be undone by a power cut.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cache.extents import Extents
from cache.index import Reader

_GET = "SELECT inode, size, sealed_at FROM objects WHERE node = ?"
_EXTENTS = "SELECT start, stop FROM extents WHERE node = ? ORDER BY start"

_PUT = """
    INSERT INTO objects (node, inode, size, sealed_at, used_at)
    VALUES (:node, :inode, :size, :sealed_at, :now)
    ON CONFLICT (node) DO UPDATE SET inode = :inode, size = :size, sealed_at = :sealed_at
"""

_LEARN = """
    UPDATE nodes SET size = coalesce(size, ?1), validator = coalesce(validator, ?2)
    WHERE id = ?3 AND (size IS NULL AND ?1 IS NOT NULL OR validator IS NULL AND ?2 IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What the index knows of one object."""

    inode: int
    size: int | None
    sealed: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An object that is being filled: extents that are on disk now, and those that the index has."""

    node: int
    inode: int
    size: int | None
    validator: str | None
    extents: Extents
    known: Extents


@dataclass(frozen=True, slots=True)
class Sealed:
    """An object that is complete and on disk, with its name."""

    node: int
    inode: int
    size: int
    validator: str | None = None


def get(reader: Reader, node: int) -> ObjectRow | None:
    """The row of an object."""
    row = reader.one(_GET, node)
    return None if row is None else ObjectRow(row[0], row[1], row[2] is not None)


def extents(reader: Reader, node: int) -> Extents:
    """The extents of an object that is not sealed."""
    return Extents(reader.all(_EXTENTS, node))


def put_checkpoint(db: sqlite3.Connection, point: Checkpoint) -> None:
    """Note which bytes of a partial object are on disk."""
    _put(db, point.node, point.inode, point.size, None)
    db.execute(_LEARN, (None, point.validator, point.node))
    before, now = set(point.known), set(point.extents)
    db.executemany(
        "DELETE FROM extents WHERE node = ? AND start = ?",
        [(point.node, start) for start, _ in before - now],
    )
    db.executemany(
        "INSERT OR REPLACE INTO extents VALUES (?, ?, ?)",
        [(point.node, start, stop) for start, stop in now - before],
    )


def put_sealed(db: sqlite3.Connection, objects: Sequence[Sealed]) -> None:
    """Note objects that are sealed, and what their fills learned of the versions."""
    for sealed in objects:
        _put(db, sealed.node, sealed.inode, sealed.size, time.time())
    nodes = [(sealed.node,) for sealed in objects]
    db.executemany("DELETE FROM extents WHERE node = ?", nodes)
    db.executemany(_LEARN, [(sealed.size, sealed.validator, sealed.node) for sealed in objects])


def delete(db: sqlite3.Connection, node: int) -> None:
    """Forget an object. To be submitted as durable work."""
    db.execute("DELETE FROM objects WHERE node = ?", (node,))


def put_used(db: sqlite3.Connection, used: Mapping[int, float]) -> None:
    """Note when objects were last used: node id → epoch seconds."""
    db.executemany(
        "UPDATE objects SET used_at = max(used_at, ?) WHERE node = ?",
        [(at, node) for node, at in used.items()],
    )


def _put(db: sqlite3.Connection, node: int, inode: int, size: int | None, sealed_at: float | None) -> None:
    row = {"node": node, "inode": inode, "size": size, "sealed_at": sealed_at, "now": time.time()}
    db.execute(_PUT, row)
