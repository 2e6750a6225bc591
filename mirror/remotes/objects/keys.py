"""Names of objects, as files and folders: what a store lists in, entries out.

A store knows no folders. There is one wherever the names of objects go on behind a slash, and where an
object stands for one: many tools write an empty object ``data/`` to have a folder that is empty, Azure's
write one ``data`` that says so in its metadata. Such markers are no files.

Names that cannot be a path (``a//b``, ``a/../b``, ``/a``) are left out, and logged. Where an object
``a`` lies beside a folder ``a/``, the folder is shown: what is in it could not be reached otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.remotes.base import Entry, Kind
from mirror.remotes.listings.rows import LARGEST, LeftOut
from mirror.remotes.names import BadNameError, check


@dataclass(frozen=True, slots=True)
class Object:
    """What a listing says of one object."""

    key: str
    """Its whole name."""
    size: int | None
    mtime_ns: int | None
    mtime_resolution_ns: int
    validator: str | None
    folder: bool = False
    """It stands for a folder, by its metadata; that it ends with a slash needs not be said."""

    def entry(self, name: str) -> Entry:
        """Return it as the file of that name."""
        return Entry(
            name, Kind.FILE, self.size, self.mtime_ns, self.mtime_resolution_ns, validator=self.validator
        )


@dataclass(frozen=True, slots=True)
class Keys:
    """One page of a listing."""

    objects: Sequence[Object]
    prefixes: Sequence[str]
    """Names up to a slash and with it, below which there is something; only where a folder was listed."""
    cursor: str | None
    """What goes on behind this page; None: it was the last."""

    def names(self) -> list[str]:
        """Return all that is on it."""
        return [*(item.key for item in self.objects), *self.prefixes]


def size(stated: object) -> int | None:
    """Read a size; None when it is none that a file can have."""
    text = str(stated)
    known = text.isascii() and text.isdigit() and len(text) < 20 and int(text) < LARGEST
    return int(text) if known else None


class Folder:
    """The entries of one folder, page by page."""

    def __init__(self, prefix: str, where: str) -> None:
        """``prefix``: of the folder, its slash included, ``""`` for all; ``where``: it is, for the log."""
        self._prefix = prefix
        self._entries: dict[str, Entry] = {}
        self._left_out = LeftOut(where)
        self.there = False
        """Whether anything says that there is such a folder."""

    def add(self, page: Keys) -> None:
        """Take what is on a page."""
        self.there = self.there or bool(page.objects or page.prefixes)
        for found in page.objects:
            if (name := self._name(found.key, found.key.removesuffix("/"))) is None:
                continue
            if found.folder or found.key.endswith("/"):
                self._folder(name)
            else:
                self._entries.setdefault(name, found.entry(name))
        for prefix in page.prefixes:
            if (name := self._name(prefix, prefix.removesuffix("/"))) is not None:
                self._folder(name)

    def _name(self, key: str, path: str) -> str | None:
        """The name of a key in this folder; None: it is left out, or the folder's own marker."""
        if key == self._prefix:
            return None
        try:
            return check(_below(self._prefix, path))
        except BadNameError as exc:
            self._left_out.add(key, str(exc))
            return None

    def _folder(self, name: str) -> None:
        known = self._entries.get(name)
        if known is not None and known.kind is Kind.FILE:
            self._left_out.add(self._prefix + name, "there is a folder of that name, which is shown")
        self._entries[name] = Entry(name, Kind.FOLDER)

    def entries(self) -> list[Entry]:
        """Return the entries, in the store's order."""
        self._left_out.report()
        return list(self._entries.values())


def below(page: Keys, base: str, prefix: str, where: str) -> list[tuple[str, Entry]]:
    """Return what is on a page of a flat listing, with paths below ``base`` (slash included).

    Files, and folders that an object stands for; ``prefix`` is what was asked for, and not among them.
    """
    found: list[tuple[str, Entry]] = []
    left_out = LeftOut(where)
    for item in page.objects:
        if item.key == prefix:
            continue
        is_folder = item.folder or item.key.endswith("/")
        try:
            path = _below(base, item.key.removesuffix("/") if is_folder else item.key)
            names = path.split("/")
            for name in names:
                check(name)
        except BadNameError as exc:
            left_out.add(item.key, str(exc))
            continue
        found.append((path, Entry(names[-1], Kind.FOLDER) if is_folder else item.entry(names[-1])))
    left_out.report()
    return found


def _below(base: str, key: str) -> str:
    if not key.startswith(base):
        raise BadNameError("it is not in this folder")
    return key[len(base) :]
