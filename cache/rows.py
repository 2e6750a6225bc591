"""The rows about objects: what the index says of the bytes that are safely on disk.

Functions that take a connection run in the writer's thread, within its transaction. Rows are written
after the bytes that they are about, and deleted, durably, before another file can take the name that
they are about: `DELETE` is the one kind of change that must not be undone by a power cut.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cache import space
from cache.arrivals import Arrivals
from cache.index import Reader
from cache.model import Arrival
from cache.sums import Run, Sums

_Row: TypeAlias = dict[str, Any]
"""Values by the names of `_PUT`."""

_GET = "SELECT inode, size, sealed_at, occupied FROM objects WHERE node = ?"
_RUNS = "SELECT start, stop, crc FROM extents WHERE node = ? ORDER BY start"

_PUT = """
    INSERT INTO objects (
        node, inode, size, sealed_at, occupied, crc, sums, digest, used_at, queue, position, used_clock
    )
    VALUES (
        :node, :inode, :size, :sealed_at, :occupied, :crc, :sums, :digest, :now, :queue, :clock, :clock
    )
    ON CONFLICT (node) DO UPDATE SET
        inode = excluded.inode, size = excluded.size, sealed_at = excluded.sealed_at,
        occupied = excluded.occupied, crc = excluded.crc, sums = excluded.sums, digest = excluded.digest,
        verified_at = NULL
"""
_USE = """
    UPDATE objects SET used_at = max(used_at, ?1), used_clock = ?2,
                       position = CASE queue WHEN 1 THEN ?2 ELSE position END
    WHERE node = ?3
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
    sealed_at: float | None
    """Epoch seconds; None: it is not."""
    occupied: int
    """Bytes of disk."""

    @property
    def sealed(self) -> bool:
        """Complete, and safely on disk with its name."""
        return self.sealed_at is not None


@dataclass(frozen=True, slots=True)
class Payer:
    """Who has claimed the room that objects take, and how much there is for all of them."""

    claims: tuple[str, ...] = ()
    capacity: int = 0
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An object that is being filled: the runs that are on disk now, and those that the index has."""

    node: int
    inode: int
    size: int | None
    occupied: int
    validator: str | None
    runs: Sums
    known: Sums
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Sealed:
    """An object that is complete and on disk, with its name."""

    node: int
    inode: int
    size: int
    occupied: int
    validator: str | None = None
    crc: int | None = None
    sums: bytes | None = None
    digest: str | None = None
    arrival: Arrival = field(default_factory=Arrival)
    learned: bool = True
    """The size or the validator may be news to the index."""


def get(reader: Reader, node: int) -> ObjectRow | None:
    """The row of an object."""
    row = reader.one(_GET, node)
    return None if row is None else ObjectRow(*row)


def get_all(reader: Reader, nodes: Sequence[int]) -> dict[int, ObjectRow]:
    """The rows of so many objects, of those that have one, by node: one question for all of them."""
    sql = """
        SELECT node, inode, size, sealed_at, occupied FROM objects
        WHERE node IN (SELECT value FROM json_each(?))
    """
    return {node: ObjectRow(*row) for node, *row in reader.all(sql, _array(nodes))}


def sealed_of(reader: Reader, nodes: Sequence[int]) -> dict[int, int]:
    """Which of so many nodes have a sealed object, and its size: one question for all of them."""
    sql = """
        SELECT node, size FROM objects
        WHERE node IN (SELECT value FROM json_each(?)) AND sealed_at IS NOT NULL
    """
    return dict(reader.all(sql, _array(nodes))) if nodes else {}


def digests(reader: Reader, node: int) -> list[str]:
    """What is known of all bytes of a sealed object: the origin's promise, and the CRC-32C of what came."""
    row = reader.one("SELECT digest, crc FROM objects WHERE node = ? AND sealed_at IS NOT NULL", node)
    promised, crc = (None, None) if row is None else row
    return [*([] if promised is None else [promised]), *([] if crc is None else [f"crc32c:{crc:08x}"])]


def _array(numbers: Sequence[int]) -> str:
    return str([*numbers])  # which is JSON, and takes a fifth of the time that `json` does


def runs(reader: Reader, node: int) -> Sums:
    """The extents of an object that is not sealed, with their checksums."""
    return Sums(Run(*row) for row in reader.all(_RUNS, node))


def put_checkpoint(db: sqlite3.Connection, point: Checkpoint, payer: Payer) -> int:
    """Note which bytes of a partial object are on disk; returns what the claim has paid for it."""
    row = _row(point.node, point.inode, point.size, point.occupied)
    (paid,) = _put(db, [(row, point.arrival)], payer)
    db.execute(_LEARN, (None, point.validator, point.node))
    before, now = set(point.known), set(point.runs)
    db.executemany(
        "DELETE FROM extents WHERE node = ? AND start = ?",
        [(point.node, run.start) for run in before - now],
    )
    db.executemany(
        "INSERT OR REPLACE INTO extents VALUES (?, ?, ?, ?)", [(point.node, *run) for run in now - before]
    )
    return paid


def put_sealed(db: sqlite3.Connection, objects: Sequence[Sealed], payer: Payer) -> list[int]:
    """Note objects that are sealed, and what their fills learned of the versions.

    Returns what the claim has paid for each.
    """
    now = time.time()
    found = []
    for new in objects:
        row = _row(new.node, new.inode, new.size, new.occupied)
        row |= {"sealed_at": now, "crc": new.crc, "sums": new.sums, "digest": new.digest}
        found.append((row, new.arrival))
    paid = _put(db, found, payer)
    nodes = _array([new.node for new in objects])
    db.execute("DELETE FROM extents WHERE node IN (SELECT value FROM json_each(?))", (nodes,))
    db.executemany(_LEARN, [(new.size, new.validator, new.node) for new in objects if new.learned])
    return paid


def learn(db: sqlite3.Connection, node: int, validator: str) -> str | None:
    """Note a version's strong validator unless one is known; returns the one that is known then."""
    db.execute(_LEARN, (None, validator, node))
    row = db.execute("SELECT validator FROM nodes WHERE id = ?", (node,)).fetchone()
    return None if row is None else row[0]


def delete(db: sqlite3.Connection, node: int) -> None:
    """Forget an object. To be submitted as durable work."""
    db.execute("DELETE FROM objects WHERE node = ?", (node,))


def put_used(db: sqlite3.Connection, used: Mapping[int, float]) -> None:
    """Note when objects were last opened: node id → epoch seconds."""
    (clock,) = db.execute("SELECT clock FROM space").fetchone()
    rows = []
    for node, at in used.items():
        size = db.execute("SELECT size FROM objects WHERE node = ?", (node,)).fetchone()
        if size is not None:
            clock += size[0] or 0
            rows.append((at, clock, node))
    db.executemany(_USE, rows)
    db.execute("UPDATE space SET clock = ?", (clock,))


def _row(node: int, inode: int, size: int | None, occupied: int) -> _Row:
    """The values of an object that is not sealed; what only one that arrives needs is added by `_put`."""
    row: _Row = {"node": node, "inode": inode, "size": size, "occupied": occupied}
    row |= dict.fromkeys(("sealed_at", "crc", "sums", "digest"))
    return row | dict.fromkeys(("now", "queue", "clock"), 0)


def _put(db: sqlite3.Connection, objects: Sequence[tuple[_Row, Arrival]], payer: Payer) -> list[int]:
    """Insert or replace rows; returns what the claims have paid for each."""
    known = _known(db, [row["node"] for row, _ in objects])
    arrivals = Arrivals(db, [row["node"] for row, _ in objects if row["node"] not in known], payer.capacity)
    now, changes = time.time(), []
    for row, arrival in objects:
        node, occupied = row["node"], row["occupied"]
        if node in known:
            had, queue = known[node]
            arrivals.grows(queue, occupied - had)
        else:
            had, row["now"] = 0, now
            queue, row["clock"] = arrivals.add(node, row["size"], occupied, arrival)
            row["queue"] = queue
        changes.append(occupied - had)
        known[node] = (occupied, queue)
    db.executemany(_PUT, [row for row, _ in objects])
    arrivals.note()
    return space.pay_all(db, payer.claims, changes)


def _known(db: sqlite3.Connection, nodes: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The bytes of disk and the queue of those that have a row."""
    sql = "SELECT node, occupied, queue FROM objects WHERE node IN (SELECT value FROM json_each(?))"
    return {node: (occupied, queue) for node, occupied, queue in db.execute(sql, (_array(nodes),))}
