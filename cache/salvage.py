"""What is taken from a damaged index: what objects cannot say of themselves, as far as it can be read.

That is what users set (pins and limits), and how objects were used. Never a row about bytes. Each table is
read on its own up to the first page that cannot be, and no value is believed that could not be there.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache import damage
from cache.errors import BadPattern
from cache.limits import Amount
from cache.patterns import Patterns

log = logging.getLogger(__name__)

BATCH = 1000
_MOST = 1 << 60
"""No id or clock gets so far."""

ASIDE = """
    CREATE TABLE aside.used (
        object BLOB PRIMARY KEY, used_at REAL NOT NULL, queue INTEGER NOT NULL, position INTEGER NOT NULL,
        used_clock INTEGER NOT NULL
    ) WITHOUT ROWID
"""
_USED = """
    SELECT nodes.object, used_at, queue, position, used_clock
    FROM objects JOIN nodes ON nodes.id = objects.node
"""
_PINS = """
    SELECT nodes.name, pattern, pinned_at FROM pins JOIN nodes ON nodes.id = pins.source
    WHERE nodes.parent = 0
"""


@dataclass(slots=True)
class Salvaged:
    """What could be read, but for the use of objects, which goes into the table ``aside.used``."""

    last_id: int = 0
    """The largest node id that is known to have been given out."""
    clock: int = 0
    cache_size: str | None = None
    min_free: str | None = None
    pins: list[tuple[str, str, float]] = field(default_factory=list)
    """Source, pattern, epoch seconds."""


def read(index: Path, into: sqlite3.Connection) -> Salvaged:
    """Read what can be of a damaged index; nothing is changed in it.

    Args:
        index: its file, which need not exist.
        into: a connection with a database ``aside``, where the use of objects goes.

    Raises:
        sqlite3.Error: that cannot be written.
    """
    into.execute(ASIDE)
    salvaged = Salvaged()
    if not index.exists():
        return salvaged
    try:
        with closing(damage.connect_to_read(index)) as old:
            _read(old, into, salvaged)
    except damage.UNREADABLE as exc:
        log.info("nothing could be read of the damaged index: %s", exc)
    return salvaged


def _read(old: sqlite3.Connection, into: sqlite3.Connection, salvaged: Salvaged) -> None:
    for sql in ("SELECT max(id) FROM nodes", "SELECT seq FROM sqlite_sequence WHERE name = 'nodes'"):
        for (id_,) in _rows(old, sql):
            if _is_count(id_):
                salvaged.last_id = max(salvaged.last_id, id_)
    for clock, cache_size, min_free in _rows(old, "SELECT clock, cache_size, min_free FROM space"):
        salvaged.clock = clock if _is_count(clock) else 0
        salvaged.cache_size = cache_size if _is_amount(cache_size) else None
        salvaged.min_free = min_free if _is_amount(min_free) else None
    salvaged.pins = [row for row in _rows(old, _PINS) if _is_pin(*row)]
    batch: list[tuple[object, ...]] = []
    for row in _rows(old, _USED):
        if _is_use(*row):
            batch.append(row)
            salvaged.clock = max(salvaged.clock, row[4])
        if len(batch) == BATCH:
            _put(into, batch)
            batch.clear()
    _put(into, batch)


def _put(into: sqlite3.Connection, batch: list[tuple[object, ...]]) -> None:
    into.executemany("INSERT OR IGNORE INTO aside.used VALUES (?, ?, ?, ?, ?)", batch)


def _rows(old: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the first that cannot be read."""
    try:
        yield from old.execute(sql)
    except (*damage.UNREADABLE, OverflowError) as exc:
        log.info("not all of the damaged index could be read: %s", exc)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_time(value: object) -> bool:
    return type(value) is float and 0 <= value <= time.time()


def _is_amount(value: object) -> bool:
    return isinstance(value, str) and not _raises(Amount.parse, value)


def _is_pin(source: object, pattern: object, at: object) -> bool:
    if not isinstance(source, str) or not isinstance(pattern, str) or not source or not _is_time(at):
        return False
    return not _raises(Patterns, [pattern])


def _is_use(key: object, used_at: object, queue: object, position: object, used_clock: object) -> bool:
    return (
        isinstance(key, bytes)
        and len(key) == 20
        and _is_time(used_at)
        and queue in {0, 1, 2}
        and type(position) is int
        and abs(position) < _MOST
        and _is_count(used_clock)
    )


def _raises(make: Callable[[Any], object], value: object) -> bool:
    try:
        make(value)
    except (BadPattern, ValueError):
        return True
    return False
