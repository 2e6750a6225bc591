"""Making the index anew from what the objects say of themselves.

    objects/ab/abcd…  ──identity──▶  source, folders, a node, a sealed row   ┐
    damaged index     ──salvage───▶  pins, limits, use, ids it gave out      ├▶ .new ──▶ index.sqlite
    .part, or no identity  ───────▶  removed: nobody can say what it is      ┘

The new index gets its name when it is whole and on disk, and not before the log of the old one has lost
its name for good: SQLite would replay that over whatever index stands beside it. The old one is kept as
``index.damaged-YYYYMMDD-HHMMSS.sqlite``. A kill on the way leaves a mark beside the old index, and the next
start begins again.

**Ids.** An inode number that a process or the kernel remembers must not come to mean something else, and the
ids that a lost index gave out cannot be known. So those of a new one begin at the present time in units of
2^-20 seconds: a million ids for every second that passed, more than any index can give out, so each index
begins above all that went before. A clock may be set back: so where an index began is noted beside the
objects, and the next one begins 2^32 ids above that, at least.

The time it takes grows with the number of objects; the memory ends at what SQLite may take for its pages.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from cache import damage, errors, salvage
from cache.errors import CacheError
from cache.found import Finder, identity_of
from cache.identity import Identity
from cache.layout import INDEX, OBJECTS, key_of, object_folders
from cache.lease import Lease
from cache.names import trustworthy, unlink
from cache.salvage import Salvaged
from cache.space import BLOCK

log = logging.getLogger(__name__)

NEW = "index.sqlite.new"
KEPT = 3
"""Damaged indexes that are kept."""
IDS_A_SECOND = 1 << 20
IDS_OF_AN_INDEX = 1 << 32
"""More than one index ever gives out, should the clock not tell how long it lived."""
BEGAN = "user.mirror.ids"
"""Attribute of the folder of objects: the first id of the index that was made anew last."""
BATCH = 10_000
"""Objects in one transaction."""
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside an index."""

_STAGED = """
    CREATE TABLE aside.sealed (
        node INTEGER PRIMARY KEY, object BLOB NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
        sealed_at REAL NOT NULL, occupied INTEGER NOT NULL, crc INTEGER, digest TEXT
    )
"""
# Where they stood; what is not known of was opened just now. What was pinned is put aside again when it is
# met by eviction.
_SEAL = """
    INSERT INTO objects (node, inode, size, sealed_at, occupied, crc, digest, used_at, queue, position,
                         used_clock)
    SELECT node, inode, size, sealed_at, occupied, crc, digest, coalesce(used_at, sealed_at),
           CASE used.queue WHEN 0 THEN 0 ELSE 1 END,
           CASE used.queue WHEN 0 THEN used.position ELSE coalesce(used_clock, clock) END,
           coalesce(used_clock, clock)
    FROM aside.sealed LEFT JOIN aside.used AS used USING (object), space
    ORDER BY node
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    step: str
    """What is done, in one or two words."""
    done: int
    """Parts of it."""
    parts: int


Report = Callable[[Progress], None]


@dataclass(slots=True)
class Rebuilt:
    """What became of a cache."""

    objects: int = 0
    """That are known again."""
    bytes: int = 0
    removed: int = 0
    """Files that were removed: incomplete, or without a readable identity."""
    pins: int = 0
    """That were taken over."""
    kept_as: str | None = None
    """Name of the file that the damaged index is kept in; None: there was none."""


def rebuild(cache: Path, report: Report = lambda _: None) -> Rebuilt:
    """Make the index anew. To be called in `index.turn`, by who is `Use.alone`. Blocks.

    Raises:
        CacheFull: no space for another index.
        CacheBroken: the folder cannot be read or written.
    """
    new = cache / NEW
    rebuilt = Rebuilt()
    try:
        _remove(new)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            _fill(db, cache, rebuilt, report)
        _sync(new)
        rebuilt.kept_as = _put_in_place(cache, new)
    except OSError as exc:
        raise errors.of_os(exc, f"make the index of {cache} anew") from exc
    except sqlite3.Error as exc:
        raise errors.of_sqlite(exc, f"make the index of {cache} anew") from exc
    return rebuilt


def _fill(db: sqlite3.Connection, cache: Path, rebuilt: Rebuilt, report: Report) -> None:
    # Nothing of it counts before all of it is on disk, so nothing is synced or journalled on the way.
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", "cache_size = -65536"):
        db.execute(f"PRAGMA {pragma}")
    damage.make_schema(db)
    db.execute("ATTACH '' AS aside")
    db.execute("BEGIN")
    report(Progress("reading what is left of the index", 0, 1))
    salvaged = salvage.read(cache / INDEX, db)
    db.execute(_STAGED)
    finder = Finder(db, _first_id(cache, salvaged), "aside.sealed")
    rebuilt.pins = _put_what_users_set(db, finder, salvaged)
    for found in _objects(cache, rebuilt, report):
        _stage(db, finder, found)
        rebuilt.objects += 1
        rebuilt.bytes += found.what.size
        if rebuilt.objects % BATCH == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
    report(Progress("writing the index", 0, 1))
    db.execute("PRAGMA cache_size = -16384")  # so much is also what each sort may take
    db.execute(_SEAL)
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'nodes'")
    db.execute("INSERT INTO sqlite_sequence VALUES ('nodes', ?)", (finder.next_id - 1,))
    db.execute("COMMIT")
    db.execute("DETACH aside")
    db.execute("PRAGMA journal_mode = WAL")


def _first_id(cache: Path, salvaged: Salvaged) -> int:
    """Where the ids of a new index begin; noted for the next one."""
    objects = cache / OBJECTS
    first = max(int(time.time() * IDS_A_SECOND), salvaged.last_id + 1)
    with suppress(OSError, ValueError):  # none yet, or no attributes here: then the clock alone has to tell
        first = max(first, int(os.getxattr(objects, BEGAN)) + IDS_OF_AN_INDEX)
    with suppress(OSError):
        os.setxattr(objects, BEGAN, str(first).encode())
    return first


def _put_what_users_set(db: sqlite3.Connection, finder: Finder, salvaged: Salvaged) -> int:
    values = (salvaged.clock, salvaged.cache_size, salvaged.min_free)
    db.execute("UPDATE space SET clock = ?, cache_size = ?, min_free = ?", values)
    for source, pattern, at in salvaged.pins:
        db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?, ?)", (finder.root(source), pattern, at))
    return len(salvaged.pins)


# -- the objects ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    key: bytes
    what: Identity
    status: os.stat_result


def _objects(cache: Path, rebuilt: Rebuilt, report: Report) -> Iterator[_Found]:
    """The objects that say what they are. All else that is none of somebody else's is removed."""
    folders = object_folders(cache)
    for number, folder in enumerate(folders):
        report(Progress(f"{rebuilt.objects:,} objects", number, len(folders)))
        with os.scandir(folder.path) as entries:
            # A list, for what is removed must not make others be passed over; a 256th of all objects.
            names = [entry.name for entry in entries]
        for name in names:
            key = key_of(folder.name, name)
            if key is None:
                continue
            path = f"{folder.path}/{name}"
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            what = None if name.endswith(".part") else identity_of(path, status)
            if what is not None:
                yield _Found(key, what, status)
            elif _removed(path.removesuffix(".part")):
                rebuilt.removed += 1


def _removed(final: str) -> bool:
    """Remove an object that nobody can vouch for, both its names; False: it is in use, or cannot go."""
    part = f"{final}.part"
    try:
        if not _may_be_leased(part):
            unlink(part)
        lease = Lease.take(part)
        if lease is None:
            return False
        try:
            if not _is_good(final):
                unlink(final)
        finally:
            lease.remove()
    except CacheError as exc:
        log.warning("%s is left: %s", final, exc)
        return False
    return True


def _may_be_leased(part: str) -> bool:
    """Whether a file could be one that a process of ours fills, or made to remove its object."""
    try:
        return trustworthy(os.lstat(part))
    except OSError:
        return True


def _is_good(final: str) -> bool:
    """Whether there is a complete object of that name, which says what it is."""
    try:
        return identity_of(final, os.lstat(final)) is not None
    except OSError:
        return False


def _stage(db: sqlite3.Connection, finder: Finder, found: _Found) -> None:
    what, status = found.what, found.status
    node = finder.node_of(what, found.key, status.st_ctime)
    occupied = status.st_blocks * 512 + BLOCK
    row = (node, found.key, status.st_ino, what.size, status.st_ctime, occupied, what.crc, what.digest)
    db.execute("INSERT INTO aside.sealed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


# -- files ---------------------------------------------------------------------------------------


def _put_in_place(cache: Path, new: Path) -> str | None:
    """Let the new index take the name, and keep the old one aside; the name of that, if there was one."""
    index = cache / INDEX
    # Whatever of this is done when the power goes: with the mark the next start begins again.
    damage.mark(index, "it was being made anew")
    _sync(cache)
    kept = None
    if index.exists():
        kept = f"index.damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite"
        _remove(cache / kept)
        try:
            (cache / kept).hardlink_to(index)
        except OSError:  # a file system without links
            index.rename(cache / kept)
    for suffix in _BESIDE:
        beside = Path(f"{index}{suffix}")
        if kept is not None and suffix == "-wal" and beside.exists() and beside.stat().st_size:
            beside.rename(cache / f"{kept}{suffix}")
        beside.unlink(missing_ok=True)
    _sync(cache)  # for good, before the new index can be met beside the old log
    new.rename(index)
    _sync(cache)
    (cache / damage.MARK).unlink(missing_ok=True)
    for old in sorted(cache.glob("index.damaged-*.sqlite"))[:-KEPT]:
        _remove(old)
    return kept


def _remove(index: Path) -> None:
    for suffix in ("", *_BESIDE):
        Path(f"{index}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
