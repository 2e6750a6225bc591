"""All rows of one manifest, as a tree, on disk.

A million rows in memory would be half a gigabyte of Python objects. They are in a temporary SQLite database
instead: a file that has no name, of this process alone (rows may hold signed URLs), in ``TMPDIR`` or
``/var/tmp``. SQLite keeps at most `CACHE` of it in memory.

A table is written once, row by row in the list's order, then `complete` checks the whole and it only
answers. That rows are sorted into an index afterwards makes a list in any order take the same time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cache import Entry, Kind
from mirror.errors import SetupError
from mirror.remotes.manifest.formats import BadListError
from mirror.remotes.manifest.rows import Row
from mirror.remotes.names import to_url

CACHE = 16 * 1024 * 1024
"""Bytes of a table in memory at most."""
BATCH = 1000
"""Rows written, or read, at a time."""
KNOWN = 4096
"""Folders and places whose numbers are at hand while a table is written."""

_SCHEMA = """
CREATE TABLE folder (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT NOT NULL,
                     line INTEGER NOT NULL, UNIQUE (parent, name));
CREATE TABLE place (id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE);
-- rest: NULL where it is the file's name, quoted.
CREATE TABLE file (line INTEGER PRIMARY KEY, folder INTEGER NOT NULL, name TEXT NOT NULL,
                   place INTEGER NOT NULL, rest TEXT, size INTEGER,
                   mtime_ns INTEGER, resolution_ns INTEGER NOT NULL,
                   sha256 BLOB, md5 BLOB, crc32c BLOB, etag TEXT);
INSERT INTO folder VALUES (0, -1, '', 0);
"""
_INSERT = "INSERT INTO file VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_ROW = (
    "SELECT file.name, place.url, rest, size, mtime_ns, resolution_ns, sha256, md5, crc32c, etag,"
    " line, folder FROM file JOIN place ON place.id = file.place"
)
_FILES = (
    "SELECT line, name, size, mtime_ns, resolution_ns, sha256, md5, etag FROM file"
    " WHERE folder = ? AND name > ?"
)
_BELOW = """
WITH RECURSIVE below (id) AS (VALUES (?) UNION ALL
    SELECT folder.id FROM folder JOIN below ON folder.parent = below.id)
"""


class Table:
    """The files and folders of one manifest. Usable from any thread; ended by `retire`."""

    def __init__(self) -> None:
        """Make an empty one."""
        self.version = ""
        """What its manifest's content is: the validator of all its folders."""
        self.rows = 0
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False
        self._folders: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._batch: list[tuple[object, ...]] = []
        with _told():
            # An empty name: a private database, in a file that is deleted as soon as it is open.
            self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE >> 10}"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
            self._db.execute("BEGIN")

    # -- writing, by one thread -----------------------------------------------------------------

    def add(self, line: int, row: Row) -> None:
        """Add a row.

        Raises:
            SetupError: there is no room for it.
        """
        with _told():
            above, _, name = row.path.rpartition("/")
            folder = self._folders.get(above)
            if folder is None:
                folder = self._folder(above, line)
            place = self._places.get(row.place)
            if place is None:
                place = self._place(row.place)
            rest = None if row.rest == to_url(name) else row.rest
            self._batch.append(
                (
                    *(line, folder, name, place, rest, row.size, row.mtime_ns, row.resolution_ns),
                    *(row.sha256, row.md5, row.crc32c, row.etag),
                )
            )
            self.rows += 1
            if len(self._batch) >= BATCH:
                self._flush()

    def complete(self, version: str) -> None:
        """End the writing: check what only shows in the whole.

        Raises:
            BadListError: a path is there twice, or as a file and as a folder.
            SetupError: there is no room for the index.
        """
        with _told():
            self._flush()
            if not self.rows:
                # More likely cut off than meant: it would take all names away.
                raise BadListError("there is no row in it")
            self._db.execute("CREATE INDEX file_name ON file (folder, name)")
            twice = self._db.execute(
                "SELECT folder, name, min(line), max(line) FROM file"
                " GROUP BY folder, name HAVING count(*) > 1 LIMIT 1"
            ).fetchone()
            if twice is not None:
                raise BadListError(f"its path is that of line {twice[2]} too", twice[3])
            both = self._db.execute(
                "SELECT file.line, folder.line FROM folder JOIN file"
                " ON file.folder = folder.parent AND file.name = folder.name LIMIT 1"
            ).fetchone()
            if both is not None:
                raise BadListError(
                    f"its path is a file in line {min(both)} and a folder here, or the other way round",
                    max(both),
                )
            self._db.execute("COMMIT")
        self._folders, self._places = {}, {}
        self.version = version

    def _folder(self, path: str, line: int) -> int:
        found = self._folders.get(path) if path else 0
        if found is None:
            above, _, name = path.rpartition("/")
            parent = self._folder(above, line)
            select = "SELECT id FROM folder WHERE parent = ? AND name = ?"
            row = self._db.execute(select, (parent, name)).fetchone()
            if row is None:
                insert = "INSERT INTO folder (parent, name, line) VALUES (?, ?, ?) RETURNING id"
                row = self._db.execute(insert, (parent, name, line)).fetchone()
            found = _remember(self._folders, path, row[0])
        return found

    def _place(self, url: str) -> int:
        row = self._db.execute("SELECT id FROM place WHERE url = ?", (url,)).fetchone()
        if row is None:
            row = self._db.execute("INSERT INTO place (url) VALUES (?) RETURNING id", (url,)).fetchone()
        return _remember(self._places, url, row[0])

    def _flush(self) -> None:
        self._db.executemany(_INSERT, self._batch)
        self._batch = []

    # -- questions ------------------------------------------------------------------------------

    def file(self, path: str) -> Row | None:
        """The row of a path; None: there is no such file."""
        above, _, name = path.rpartition("/")
        with self._lock:
            folder = self._find_folder(above)
            if folder is None:
                return None
            found = self._db.execute(f"{_ROW} WHERE folder = ? AND name = ?", (folder, name)).fetchone()
        return None if found is None else _row(above, found)

    def has_folder(self, path: str) -> bool:
        """Whether a path is a folder."""
        with self._lock:
            return self._find_folder(path) is not None

    def entries(self, path: str) -> list[Entry] | None:
        """The entries of a folder, in the list's order; None: there is no such folder. For a thread."""
        with self._lock:
            folder = self._find_folder(path)
        if folder is None:
            return None
        found: list[tuple[int, Entry]] = []
        for select, make in (
            ("SELECT line, name FROM folder WHERE parent = ? AND name > ?", _folder_entry),
            (_FILES, _file_entry),
        ):
            after = ""
            while True:
                # In pages: the event loop asks for single rows meanwhile.
                with self._lock:
                    page = self._db.execute(
                        f"{select} ORDER BY name LIMIT {BATCH}", (folder, after)
                    ).fetchall()
                found += [(row[0], make(row)) for row in page]
                if len(page) < BATCH:
                    break
                after = page[-1][1]
        found.sort(key=lambda pair: pair[0])
        return [entry for _, entry in found]

    def page(self, under: str, after: int, count: int) -> tuple[list[Row], int | None]:
        """Files below a folder in the list's order, ``count`` at most, that stand behind line ``after``.

        Returns them, and the line of the last one; None when there are no others. For a thread.
        """
        with self._lock:
            folder = self._find_folder(under)
            if folder is None:
                return [], None
            paths: dict[int, str] = {}
            where = "line > ?" if folder == 0 else "line > ? AND folder IN (SELECT id FROM below)"
            begin, values = ("", [after, count]) if folder == 0 else (_BELOW, [folder, after, count])
            found = self._db.execute(f"{begin}{_ROW} WHERE {where} ORDER BY line LIMIT ?", values).fetchall()
            rows = [_row(self._path(row[11], paths), row) for row in found]
        return rows, found[-1][10] if len(found) == count else None

    def _find_folder(self, path: str) -> int | None:
        folder = 0
        for name in path.split("/") if path else ():
            row = self._db.execute(
                "SELECT id FROM folder WHERE parent = ? AND name = ?", (folder, name)
            ).fetchone()
            if row is None:
                return None
            folder = row[0]
        return folder

    def _path(self, folder: int, known: dict[int, str]) -> str:
        if folder == 0:
            return ""
        if folder not in known:
            parent, name = self._db.execute(
                "SELECT parent, name FROM folder WHERE id = ?", (folder,)
            ).fetchone()
            above = self._path(parent, known)
            known[folder] = f"{above}/{name}" if above else name
        return known[folder]

    # -- the end --------------------------------------------------------------------------------

    @contextmanager
    def used(self) -> Iterator[Table]:
        """Keep it from being closed meanwhile."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            self._close_unused()

    def retire(self) -> None:
        """Close it, as soon as nobody uses it."""
        self._retired = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._retired and not self._users:
            self._db.close()

    @property
    def bytes_on_disk(self) -> int:
        """What it takes."""
        pages, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
        return int(pages * size)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise SetupError(
            f"there is no room for a temporary copy of the manifest ({exc}): make some, or set TMPDIR"
        ) from exc


def _remember(known: dict[str, int], name: str, number: int) -> int:
    if len(known) >= KNOWN:
        known.clear()
    known[name] = number
    return number


def _row(above: str, found: Sequence[object]) -> Row:
    name, place, rest, *others = found[:10]
    path = f"{above}/{name}" if above else str(name)
    return Row(path, str(place), to_url(str(name)) if rest is None else str(rest), *others)  # type: ignore[arg-type]


def _folder_entry(row: Sequence[object]) -> Entry:
    return Entry(str(row[1]), Kind.FOLDER)


def _file_entry(row: Sequence[object]) -> Entry:
    _, name, size, mtime_ns, resolution, sha256, md5, etag = row
    made = Row(str(name), "", "", size, mtime_ns, resolution, sha256, md5, None, etag)  # type: ignore[arg-type]
    return made.entry()
