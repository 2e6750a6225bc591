"""Objects that the index does not know, and the names that they get in it by what they say of themselves.

Where nobody has listed a folder, a name in it stands for the newest of the versions that were found. What a
listing said is not changed by what was found: there an object becomes a past version, which comes back when
the origin has it again. A folder that is made on the way is unlisted, so that it never answers "not there".
"""

from __future__ import annotations

import os
import sqlite3
from typing import NamedTuple

from cache import identity
from cache.identity import Identity
from cache.model import Kind
from cache.names import trustworthy

NAME_MAX = 255
"""Bytes of one name at most."""
FOLDERS_KEPT = 10_000
"""Folders whose nodes are kept at hand."""

_INT64 = range(-(1 << 63), 1 << 63)

_INSERT = """
    INSERT INTO nodes (id, entry, source, parent, name, kind, size, mtime_ns, mtime_resolution_ns, validator,
                       current, listed_size, object)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
"""
_COLUMNS = "id, entry, kind, mtime_ns, current, object"
# In two halves, for each has an index of its own.
_VERSIONS = f"""
    SELECT {_COLUMNS} FROM nodes WHERE parent = ?1 AND name = ?2 AND current = 1 UNION ALL
    SELECT {_COLUMNS} FROM nodes WHERE parent = ?1 AND name = ?2 AND current = 0
"""  # noqa: S608 - names of ours
_GOES_FIRST = "UPDATE objects SET queue = 0, position = -1 WHERE node = ?"


class _Folder(NamedTuple):
    id: int
    source: int
    open: bool
    """Names may become current in it: it is, and nobody has listed it."""


class _Version(NamedTuple):
    id: int
    entry: int
    kind: int
    mtime_ns: int | None
    current: int
    key: bytes | None


def identity_of(path: str, status: os.stat_result) -> Identity | None:
    """What a complete object says of itself; None when it is not a file of ours that can be believed."""
    if not trustworthy(status):
        return None
    seen = identity.read(path)
    return seen if seen is not None and seen.size == status.st_size and _makes_sense(seen) else None


def _makes_sense(seen: Identity) -> bool:
    """Whether all of it has the right types and could be a row of the index."""
    numbers: tuple[object, ...] = (seen.size, seen.mtime_resolution_ns, seen.mtime_ns or 0, seen.crc or 0)
    texts: tuple[object, ...] = (seen.source, seen.path, seen.validator or "", seen.digest or "")
    if not all(type(number) is int and number in _INT64 for number in numbers):
        return False
    if not all(isinstance(text, str) and _is_utf8(text) for text in texts):
        return False
    names = seen.path.split("/")
    return (
        bool(seen.source)
        and seen.mtime_resolution_ns > 0
        and all(name not in {"", ".", ".."} and len(name.encode()) <= NAME_MAX for name in names)
    )


def _is_utf8(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


class Finder:
    """Gives objects that were found a node, within a transaction of its caller's."""

    def __init__(self, db: sqlite3.Connection, first_id: int, sealed: str = "objects") -> None:
        """``first_id`` is the first that was never given out; ``sealed`` is the table of what is sealed."""
        self._db = db
        self._sealed_at = f"SELECT sealed_at FROM {sealed} WHERE node = ?"  # noqa: S608 - a name of ours
        self.next_id = first_id
        self._folders: dict[tuple[str, str], _Folder] = {}

    def node_of(self, seen: Identity, key: bytes, sealed_at: float) -> int:
        """The node of an object, made where there is none. Raises sqlite3.Error."""
        place, _, name = seen.path.rpartition("/")
        folder = self._folder(seen.source, place)
        versions = self._versions(folder.id, name)
        for version in versions:
            if version.key == key:
                return version.id
        now = next((version for version in versions if version.current), None)
        current = folder.open and (
            now is None or (now.kind == Kind.FILE and self._newer(seen, sealed_at, now))
        )
        if current and now is not None:
            self._retire(now)
        id_ = self._next()
        entry = versions[0].entry if versions else id_
        self._db.execute(
            _INSERT,
            (
                id_,
                entry,
                folder.source,
                folder.id,
                name,
                Kind.FILE.value,
                seen.size,
                seen.mtime_ns,
                seen.mtime_resolution_ns,
                seen.validator,
                int(current),
                key,
            ),
        )
        return id_

    def root(self, source: str) -> int:
        """The root of a source, made when there is none. Raises sqlite3.Error."""
        return self._folder(source, "").id

    def _folder(self, source: str, path: str) -> _Folder:
        known = self._folders.get((source, path))
        if known is None:
            known = self._found_folder(source, path)
            if len(self._folders) >= FOLDERS_KEPT:
                self._folders.clear()
            self._folders[source, path] = known
        return known

    def _found_folder(self, source: str, path: str) -> _Folder:
        if path:
            above, _, name = path.rpartition("/")
            parent = self._folder(source, above)
        else:
            parent, name = _Folder(0, 0, open=True), source
        versions = self._versions(parent.id, name)
        now = next((version for version in versions if version.current), None)
        there = next((version for version in versions if version.kind == Kind.FOLDER), None)
        if there is not None and (there is now or not parent.open):
            return self._known_folder(there.id)
        if parent.open and now is not None:
            self._retire(now)  # a file: what is below the name says that there was a folder as well
        if there is not None:
            self._db.execute("UPDATE nodes SET current = 1 WHERE id = ?", (there.id,))
            return self._known_folder(there.id)
        id_ = self._next()
        entry = versions[0].entry if versions else id_
        source_id = parent.source or id_
        what = (id_, entry, source_id, parent.id, name, Kind.FOLDER.value)
        self._db.execute(_INSERT, (*what, None, None, 1_000_000_000, None, int(parent.open), None))
        return _Folder(id_, source_id, parent.open)

    def _known_folder(self, id_: int) -> _Folder:
        sql = "SELECT source, current = 1 AND listed_at IS NULL FROM nodes WHERE id = ?"
        source, open_ = self._db.execute(sql, (id_,)).fetchone()
        return _Folder(id_, source, bool(open_))

    def _versions(self, parent: int, name: str) -> list[_Version]:
        return [_Version(*row) for row in self._db.execute(_VERSIONS, (parent, name))]

    def _retire(self, version: _Version) -> None:
        self._db.execute("UPDATE nodes SET current = 0 WHERE id = ?", (version.id,))
        self._db.execute(_GOES_FIRST, (version.id,))

    def _next(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _newer(self, seen: Identity, sealed_at: float, now: _Version) -> bool:
        """Whether what was found is of a later version than what stands at its name."""
        if seen.mtime_ns is not None and now.mtime_ns is not None and seen.mtime_ns != now.mtime_ns:
            return seen.mtime_ns > now.mtime_ns
        row = self._db.execute(self._sealed_at, (now.id,)).fetchone()
        return row is None or row[0] is None or sealed_at > row[0]
