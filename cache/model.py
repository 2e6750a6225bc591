"""The values the store speaks in: what a source says, and what was made of it.

An `Entry` is a statement of the origin about one name. A `Node` is one version of one entry as the
rest of the world sees it: its id is the inode number, lasts as long as the index, and is never used
for anything else. Another version of the same name is another node; when a version comes back
(a roll-back, a folder that was away for a moment), so does its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Kind(IntEnum):
    """What a name stands for. The values are those of the index."""

    FILE = 1
    FOLDER = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says about one name."""

    name: str
    kind: Kind
    size: int | None = None
    """Bytes; None when the listing does not say (folders: always None)."""
    mtime_ns: int | None = None
    """Nanoseconds since the epoch, UTC; None when unknown."""
    mtime_resolution_ns: int = 1_000_000_000
    """How exact ``mtime_ns`` is: an nginx HTML listing has whole minutes, HTTP headers whole seconds."""
    validator: str | None = None
    """A strong validator (``etag:"abc"``, ``modified:DATE``, ``generation:7``…), or None; weak ones are never
    kept."""


@dataclass(frozen=True, slots=True)
class Node:
    """One version of one entry, as the index has it."""

    id: int
    """The inode number: lasting, never reused."""
    entry: int
    """Id of the first version of this name: a directory cookie that survives new versions."""
    source: int
    """Id of the source's root node."""
    parent: int
    """Id of the folder; 0 for a root."""
    name: str
    """One path component; of a root: the source's URL."""
    kind: Kind
    size: int | None
    """Bytes, None while nobody has said (folders: always None)."""
    mtime_ns: int | None
    """Nanoseconds since the epoch, UTC; None when unknown."""
    mtime_resolution_ns: int
    """How exact ``mtime_ns`` is."""
    validator: str | None
    """The strong validator, once one was seen; it never changes afterwards."""
    checked_at: float | None
    """Epoch seconds when an answer about this entry itself (stat, GET), or the listing that brought
    it with its size, last confirmed it; None: never. A fresher listing of the folder confirms an entry
    that has ``listed_size`` without touching it."""
    listed_at: float | None
    """Folders: epoch seconds of the last whole listing; None: never listed."""
    listing_validator: str | None
    """Folders: what makes the next listing conditional."""
    current: bool
    """False once superseded or removed."""
    listed_size: bool = True
    """Whether the folder's last listing stated the size itself: it then vouches for this entry."""
    key: bytes = field(default=b"", repr=False)
    """Name of the object that holds the bytes: fixed when the node was made (files only)."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new listing changed in one folder. False when nothing did."""

    added: Sequence[Node] = ()
    changed: Sequence[tuple[Node, Node]] = ()
    """(old, new): another version took the name."""
    removed: Sequence[Node] = ()
    """The names that are gone; of a folder only the folder itself is told."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Why an object is fetched."""

    opened: bool = True
    """Somebody opens it; False: it is fetched ahead of the first open."""
    wanted: bool = False
    """A user asked for it to be here."""


def same_version(known: Node | Entry, seen: Entry) -> bool:
    """Whether ``seen`` can be the version that is ``known``: nothing that both state differs.

    Folders have no versions: their mtime changes with every name in them. Of files, kinds, sizes and
    strong validators of one sort have to be equal where both are known, and mtimes at the coarser of the two
    resolutions. What only one side states is no contradiction: it is something learned.
    """
    if known.kind is not seen.kind:
        return False
    if seen.kind is Kind.FOLDER:
        return True
    if None not in (known.size, seen.size) and known.size != seen.size:
        return False
    if known.validator != seen.validator and _comparable(known.validator, seen.validator):
        return False
    if known.mtime_ns is None or seen.mtime_ns is None:
        return True
    resolution = max(known.mtime_resolution_ns, seen.mtime_resolution_ns)
    return known.mtime_ns // resolution == seen.mtime_ns // resolution


def _comparable(known: str | None, seen: str | None) -> bool:
    # An answer to HEAD may lack the ETag that the one to GET has: a time and an ETag do not contradict.
    if known is None or seen is None:
        return False
    return known.partition(":")[0] == seen.partition(":")[0]
