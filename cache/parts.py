"""A few entries of a folder at a time: what makes a large listing no large transaction.

An entry that is written is stamped: its ``checked_at`` is no earlier than the beginning of the listing. When
all are written, what has no stamp is looked for, some thousands at a time, and removed. Until then the
folder counts as listed as it did before.

Of several files of one name the first that was seen since the listing began counts: so an entry stands for
the same until it is over, and may be used before. Of a file and a folder of one name the folder counts, which
may come first, or later, or have gone since the last listing. So a file at whose name a folder stands is put
off until what is gone is removed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cache import news, versions
from cache.index import Reader
from cache.model import Changes, Entry, Kind, Node, same_version
from cache.versions import COLUMNS, node_of

SWEPT = 4096
"""Most entries that one transaction removes."""
LOOKED_AT = 65536
"""Entries that one transaction looks at, about; it takes some 20 ms."""
NAMES = 500
"""Names asked for by one query."""

_LOOK = """
    SELECT max(entry), count(*) FROM
        (SELECT entry FROM nodes WHERE parent = ? AND entry > ? AND current = 1 ORDER BY entry LIMIT ?)
"""
_UNSEEN = f"""
    SELECT {COLUMNS} FROM nodes WHERE parent = ? AND entry > ? AND entry <= ? AND current = 1
        AND NOT coalesce(checked_at BETWEEN ? AND ?, 0) ORDER BY entry LIMIT ?
"""  # noqa: S608
_LISTED = "UPDATE nodes SET listed_at = ?, listing_validator = ? WHERE id = ?"
_OLDER = """
    SELECT EXISTS (SELECT 1 FROM nodes WHERE parent = ? AND current = 0)
        OR EXISTS (SELECT 1 FROM nodes WHERE parent = ? AND current = 1 AND NOT coalesce(checked_at >= ?, 0))
"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """From the beginning of a listing to this moment: a time beyond it was told by a clock that was wrong."""

    began_at: float
    now: float
    exact: bool = False
    """Folders get the beginning itself: so they are told from those that only others have seen."""

    @property
    def until(self) -> float:
        """Its end. A clock that was set back meanwhile makes nothing unseen that has the beginning itself."""
        return max(self.began_at, self.now)

    def fits(self, when: float | None) -> bool:
        """Whether a time lies in it."""
        return when is not None and self.began_at <= when <= self.until

    def put(self, node: Node) -> Node:
        """Stamp a node."""
        if self.exact and node.kind is Kind.FOLDER:
            seen = node.checked_at == self.began_at
        else:
            seen = self.fits(node.checked_at)
        return node if seen else replace(node, checked_at=self.began_at)


@dataclass(frozen=True, slots=True)
class Part:
    """What some entries did to their folder."""

    changes: Changes
    put_off: Sequence[Entry] = ()
    """Files at whose names a folder stands."""


def put(db: sqlite3.Connection, folder: Node, place: str, entries: Sequence[Entry], stamp: Stamp) -> Part:
    """Write some entries of a folder, which leave its others as they are.

    ``place`` is what `versions.place_of` says of the folder.
    """
    entries = versions.of_one_name(entries)
    names = [entry.name for entry in entries]
    known = {node.name: node for node in _named(db, folder.id, names, current=True)}
    past = versions.past_of(_named(db, folder.id, names, current=False))
    put_off = [
        entry
        for entry in entries
        if entry.kind is Kind.FILE and (old := known.get(entry.name)) and old.kind is Kind.FOLDER
    ]
    left_out = {entry.name for entry in put_off}
    left_out |= {entry.name for entry in entries if _is_another(known.get(entry.name), entry, stamp)}
    merged = versions.merge(
        known,
        past,
        (entry for entry in entries if entry.name not in left_out),
        folder,
        place,
        versions.free_id(db),
        stamp.began_at,
        stamp.put,
    )
    versions.write(db, merged)
    return Part(Changes(merged.added, merged.changed), put_off)


def _is_another(known: Node | None, entry: Entry, stamp: Stamp) -> bool:
    """Whether an entry is of another version of a file than was seen since the listing began."""
    if known is None or known.kind is not Kind.FILE or entry.kind is not Kind.FILE:
        return False
    return stamp.fits(known.checked_at) and not same_version(known, entry)


def _named(db: sqlite3.Connection, folder: int, names: Iterable[str], *, current: bool) -> Iterator[Node]:
    which = "current = 1" if current else "current = 0"
    names = iter(names)
    while some := list(islice(names, NAMES)):
        marks = ",".join("?" * len(some))
        sql = f"SELECT {COLUMNS} FROM nodes WHERE parent = ? AND {which} AND name IN ({marks})"  # noqa: S608
        yield from map(node_of, db.execute(sql, (folder, *some)))


@dataclass(frozen=True, slots=True)
class Look:
    """What was found by looking at some entries of a folder."""

    after: int
    """Cookie of the last one."""
    over: bool
    """It was the folder's last."""
    count: int
    changes: Changes


def sweep(db: sqlite3.Connection, folder: int, after: int, limit: int, stamp: Stamp) -> Look:
    """Look at some entries of a folder, and remove those without a stamp."""
    limit = min(limit, LOOKED_AT)
    upto, count = db.execute(_LOOK, (folder, after, limit)).fetchone()
    if not count:
        return Look(after, True, 0, Changes())
    rows = db.execute(_UNSEEN, (folder, after, upto, stamp.began_at, stamp.until, SWEPT))
    gone = [node_of(row) for row in rows.fetchall()]
    versions.retire(db, gone)
    changes = Changes(removed=[replace(node, current=False) for node in gone])
    if len(gone) == SWEPT:
        return Look(gone[-1].entry, False, count, changes)
    return Look(upto, count < limit, count, changes)


def listed(db: sqlite3.Connection, folder: int, at: float, validator: str | None = None) -> None:
    """Note that a folder is complete, as of a time; ``validator`` makes the next listing conditional."""
    db.execute(_LISTED, (at, validator, folder))


def all_seen_since(reader: Reader, folder: int, when: float) -> bool:
    """Whether a folder has no entry, and never had one, but those seen since then (epoch seconds)."""
    row = reader.one(_OLDER, folder, folder, when)
    return row is not None and not row[0]


def tell(db: sqlite3.Connection, author: int, folder: Node, changes: Changes) -> None:
    """Tell other processes what changed in a folder."""
    # No absence was told of a folder that was never listed, but names may have been.
    told = changes if folder.listed_at is not None else replace(changes, added=())
    news.tell(db, author, folder.id, news.of(told))
