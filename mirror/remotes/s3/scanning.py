"""A flat listing: every key below a folder, in the bucket's own order.

The cursor of a page is its last key, for the next one to start after, in this process or another, and the
few files whose kind is not decided by then (`Undecided`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cache import Entry, Kind
from mirror.errors import ProtocolError
from mirror.remotes.listings.rows import LeftOut
from mirror.remotes.names import BadNameError, check
from mirror.remotes.s3.folders import Undecided, entry
from mirror.remotes.s3.listing import Found

File = tuple[str, Entry]


class Scan:
    """One scan, page by page."""

    def __init__(self, source: str, under: str, where: str, cursor: str | None) -> None:
        """Prepare.

        Args:
            source: prefix of the source, with a slash at the end unless it is empty.
            under: the folder, in the same form, below the source.
            where: for messages.
            cursor: where an earlier scan was; None: at the beginning.

        Raises:
            ProtocolError: the cursor is none of a scan.
        """
        self.prefix = source + under
        self.after: str | None = None
        """The key to start after."""
        self._source = source
        self._where = where
        self._left_out = LeftOut(where)
        self._good_folder = ""
        held: list[File] = []
        if cursor is not None:
            try:
                self.after, rows = json.loads(cursor)
                for path, *fields in rows:
                    held.append((path, Entry(path.rpartition("/")[2], Kind.FILE, *fields)))
            except (ValueError, TypeError, AttributeError) as exc:
                raise ProtocolError(f"{where}: a scan cannot go on from {cursor[:100]!a}") from exc
        self._undecided = Undecided(self._left_out, held)

    def add(self, page: Found) -> list[File]:
        """Take in a page; returns the files that are decided by now, and folders that have a marker.

        Raises:
            ProtocolError: it has keys that were not asked for.
        """
        files: list[File] = []
        undecided, skip = self._undecided, len(self._source)
        for key in page.keys:
            if not key.key.startswith(self.prefix):
                raise ProtocolError(
                    f"{self._where}: the listing has a key of another folder: {key.key[:100]!a}"
                )
            path = key.key[skip:]
            files += undecided.pass_by(path)
            name = self._name(path)
            if name:
                undecided.held.append((path, entry(name, key)))
            elif name is not None and key.key != self.prefix:
                folder = path[:-1]
                files.append((folder, Entry(folder.rpartition("/")[2], Kind.FOLDER)))
        if page.keys:
            self.after = page.keys[-1].key
        if page.cursor is None:
            files += undecided.rest()
            self._left_out.report()
        return files

    def cursor(self) -> str:
        """Return what a later scan goes on from."""
        held = [
            (path, file.size, file.mtime_ns, file.mtime_resolution_ns, file.validator)
            for path, file in self._undecided.held
        ]
        return json.dumps([self.after, held])

    def _name(self, path: str) -> str | None:
        """The name of the file at a path; ``""``: it is a marker of a folder; None: it is no path."""
        folder, slash, name = path.rpartition("/")
        try:
            if slash and (folder != self._good_folder or not folder):
                _check_all(folder.split("/"))
                self._good_folder = folder
            return check(name) if name else ""
        except BadNameError as exc:
            self._left_out.add(path, str(exc))
            return None


def _check_all(names: Sequence[str]) -> None:
    for name in names:
        check(name)
