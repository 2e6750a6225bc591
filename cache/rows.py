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
from typing import NamedTuple

from cache import bulk, space
from cache.arrivals import Arrivals
from cache.index import Reader
from cache.model import Arrival
from cache.sums import Run, Sums

_GET = "SELECT inode, size, sealed_at, occupied FROM objects WHERE node = ?"
_DROP = "DELETE FROM extents WHERE node = ? AND start IN (SELECT value FROM json_each(?))"
_RUNS = "SELECT start, stop, crc FROM extents WHERE node = ? ORDER BY start"

_PUT = """
    INSERT INTO objects (
        node, inode, size, occupied, sealed_at, crc, sums, digest, used_at, queue, position, used_clock
    )
    VALUES {rows}
    ON CONFLICT (node) DO UPDATE SET
        inode = excluded.inode, size = excluded.size, sealed_at = excluded.sealed_at,
        occupied = excluded.occupied, crc = excluded.crc, sums = excluded.sums, digest = excluded.digest,
        verified_at = NULL
"""
_USE = """
    UPDATE objects SET used_at = max(used_at, new.column2), used_clock = new.column3,
                       position = CASE queue WHEN 1 THEN new.column3 ELSE position END
    FROM (VALUES {rows}) AS new
    WHERE node = new.column1
"""
_SIZES = "SELECT node, size FROM objects WHERE node IN (SELECT value FROM json_each(?))"

_LEARN = """
    UPDATE nodes SET size = coalesce(size, new.column2), validator = coalesce(validator, new.column3)
    FROM (VALUES {rows}) AS new
    WHERE id = new.column1 AND (
        size IS NULL AND new.column2 IS NOT NULL OR validator IS NULL AND new.column3 IS NOT NULL
    )
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
    return {node: ObjectRow(*row) for node, *row in reader.all(sql, bulk.array(nodes))}


def sealed_of(reader: Reader, nodes: Sequence[int]) -> dict[int, int]:
    """Which of so many nodes have a sealed object, and its size: one question for all of them."""
    sql = """
        SELECT node, size FROM objects
        WHERE node IN (SELECT value FROM json_each(?)) AND sealed_at IS NOT NULL
    """
    return dict(reader.all(sql, bulk.array(nodes))) if nodes else {}


def digests(reader: Reader, node: int) -> list[str]:
    """What is known of all bytes of a sealed object: the origin's promise, and the CRC-32C of what came."""
    row = reader.one("SELECT digest, crc FROM objects WHERE node = ? AND sealed_at IS NOT NULL", node)
    promised, crc = (None, None) if row is None else row
    return [*([] if promised is None else [promised]), *([] if crc is None else [f"crc32c:{crc:08x}"])]


def runs(reader: Reader, node: int) -> Sums:
    """The extents of an object that is not sealed, with their checksums."""
    return Sums(Run(*row) for row in reader.all(_RUNS, node))


def put_checkpoint(db: sqlite3.Connection, point: Checkpoint, payer: Payer) -> int:
    """Note which bytes of a partial object are on disk; returns what the claim has paid for it."""
    row = _Row(point.node, point.inode, point.size, point.occupied)
    (paid,) = _put(db, [(row, point.arrival)], payer)
    bulk.execute(db, _LEARN, [(point.node, None, point.validator)])
    before, now = set(point.known), set(point.runs)
    starts = bulk.array(run.start for run in before - now)
    db.execute(_DROP, (point.node, starts))
    bulk.execute(
        db, "INSERT OR REPLACE INTO extents VALUES {rows}", ((point.node, *run) for run in now - before)
    )
    return paid


def put_sealed(db: sqlite3.Connection, objects: Sequence[Sealed], payer: Payer) -> list[int]:
    """Note objects that are sealed, and what their fills learned of the versions.

    Returns what the claim has paid for each.
    """
    now = time.time()
    found = [
        (
            _Row(new.node, new.inode, new.size, new.occupied, now, new.crc, new.sums, new.digest),
            new.arrival,
        )
        for new in objects
    ]
    paid = _put(db, found, payer)
    nodes = bulk.array([new.node for new in objects])
    db.execute("DELETE FROM extents WHERE node IN (SELECT value FROM json_each(?))", (nodes,))
    learned: dict[int, tuple[int, str | None]] = {}
    for new in objects:
        if new.learned:
            size, validator = learned.get(new.node, (new.size, None))
            learned[new.node] = (size, validator or new.validator)
    bulk.execute(db, _LEARN, ((node, *what) for node, what in learned.items()))
    return paid


def learn(db: sqlite3.Connection, node: int, validator: str) -> str | None:
    """Note a version's strong validator unless one is known; returns the one that is known then."""
    bulk.execute(db, _LEARN, [(node, None, validator)])
    row = db.execute("SELECT validator FROM nodes WHERE id = ?", (node,)).fetchone()
    return None if row is None else row[0]


def delete(db: sqlite3.Connection, node: int) -> None:
    """Forget an object. To be submitted as durable work."""
    db.execute("DELETE FROM objects WHERE node = ?", (node,))


def put_used(db: sqlite3.Connection, used: Mapping[int, float]) -> None:
    """Note when objects were last opened: node id → epoch seconds."""
    (clock,) = db.execute("SELECT clock FROM space").fetchone()
    sizes = dict(db.execute(_SIZES, (bulk.array(used),)).fetchall())
    rows = []
    for node, at in used.items():
        if node in sizes:
            clock += sizes[node] or 0
            rows.append((node, at, clock))
    bulk.execute(db, _USE, rows)
    db.execute("UPDATE space SET clock = ?", (clock,))


class _Row(NamedTuple):
    """What is said of an object, whether it was known or arrives."""

    node: int
    inode: int
    size: int | None
    occupied: int
    sealed_at: float | None = None
    crc: int | None = None
    sums: bytes | None = None
    digest: str | None = None


def _put(db: sqlite3.Connection, objects: Sequence[tuple[_Row, Arrival]], payer: Payer) -> list[int]:
    """Insert or replace rows; returns what the claims have paid for each."""
    known = _known(db, [row.node for row, _ in objects])
    arrivals = Arrivals(db, [row.node for row, _ in objects if row.node not in known], payer.capacity)
    now, changes, values = time.time(), [], []
    for row, arrival in objects:
        had, queue = known.get(row.node, (0, 0))
        clock = 0  # of one that is known it stays what it was, as does the queue
        if row.node in known:
            arrivals.grows(queue, row.occupied - had)
        else:
            queue, clock = arrivals.add(row.node, row.size, row.occupied, arrival)
        changes.append(row.occupied - had)
        known[row.node] = (row.occupied, queue)
        values.append((*row, now, queue, clock, clock))
    bulk.execute(db, _PUT, values)
    arrivals.note()
    return space.pay_all(db, payer.claims, changes)


def _known(db: sqlite3.Connection, nodes: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The bytes of disk and the queue of those that have a row."""
    sql = "SELECT node, occupied, queue FROM objects WHERE node IN (SELECT value FROM json_each(?))"
    return {node: (occupied, queue) for node, occupied, queue in db.execute(sql, (bulk.array(nodes),))}
