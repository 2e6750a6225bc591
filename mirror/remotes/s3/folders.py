"""Keys as a tree: what is a file, what is a folder, and what is neither.

A folder is there because of the keys below it. A key that ends with a slash is a marker: some tools write
one to have an empty folder. Where a key is a folder of others too, the folder is what is shown, for
else all that is in it could not be reached; the object of that name is left out. Keys that are no
paths (``a//b``, ``../x``, a leading slash) are left out as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from cache import Entry, Kind
from mirror.errors import ProtocolError
from mirror.remotes.listings.rows import LeftOut
from mirror.remotes.names import BadNameError, check
from mirror.remotes.s3.listing import Found, Key

AMBIGUOUS = "it is a file and a folder; the folder is shown"


def entry(name: str, key: Key) -> Entry:
    """Return the entry of an object."""
    return Entry(name, Kind.FILE, key.size, key.mtime_ns, key.resolution_ns, key.validator)


class Folder:
    """The entries of one folder, gathered from its pages."""

    def __init__(self, prefix: str, where: str) -> None:
        """Gather what is below ``prefix`` (of keys: ends with a slash, or is empty) of ``where``."""
        self.exists = False
        """Some key is there, if only a marker."""
        self._prefix = prefix
        self._where = where
        self._left_out = LeftOut(where)
        self._entries: dict[str, Entry] = {}

    def add(self, page: Found) -> None:
        """Take in a page.

        Raises:
            ProtocolError: it has keys that were not asked for.
        """
        prefix, entries = self._prefix, self._entries
        for key in page.keys:
            self.exists = True
            name = self._rest(key.key)
            if not name:
                continue  # the marker of the folder itself
            try:
                check(name)
            except BadNameError as exc:
                self._left_out.add(name, str(exc))
                continue
            if name in entries:
                self._left_out.add(name, AMBIGUOUS)
                continue
            entries[name] = entry(name, key)
        for common in page.prefixes:
            self.exists = True
            name = self._rest(common).removesuffix("/")
            try:
                check(name)
            except BadNameError as exc:
                self._left_out.add(common[len(prefix) :], str(exc))
                continue
            if name in entries:
                self._left_out.add(name, AMBIGUOUS)
            entries[name] = Entry(name, Kind.FOLDER)

    def entries(self) -> list[Entry]:
        """All entries; says what was left out."""
        self._left_out.report()
        return list(self._entries.values())

    def _rest(self, key: str) -> str:
        if not key.startswith(self._prefix):
            raise ProtocolError(f"{self._where}: the listing has a key of another folder: {key[:100]!a}")
        return key[len(self._prefix) :]


class Undecided:
    """Files of a flat listing, held back while their key may still turn out to be a folder's too.

    Keys come sorted, so all that begin with ``a`` follow it: it is decided at the first that does not.
    """

    def __init__(self, left_out: LeftOut, held: Iterable[tuple[str, Entry]] = ()) -> None:
        self.held = list(held)
        """Paths and entries; each path begins with the one before it."""
        self._left_out = left_out

    def pass_by(self, path: str) -> list[tuple[str, Entry]]:
        """Note that a key (``path``: below the source) comes next; returns the files that are decided."""
        held, decided = self.held, []
        while held and not path.startswith(held[-1][0]):
            decided.append(held.pop())
        if held and "/" in path:
            for file in list(held):
                if path.startswith(file[0] + "/"):
                    held.remove(file)
                    self._left_out.add(file[0], AMBIGUOUS)
        return decided

    def rest(self) -> list[tuple[str, Entry]]:
        """Return the files that no key is left for."""
        held, self.held = self.held, []
        return held
