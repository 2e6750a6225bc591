"""Questions about many files at once: what is here of a folder, of a source, of all that is pinned.

Each is one query for a folder or a page of rows, states included, never one for each file; so a folder
of 10,000 names in an index of 1,000,000 is answered in some 20 ms. Everything comes from the index: what
is being written at this moment is counted once it is safely on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from cache.index import Reader, Row
from cache.model import Kind, Node
from cache.patterns import Patterns
from cache.pins import Pins
from cache.space import BLOCK
from cache.tree import Tree
from cache.versions import COLUMNS, node_of

PAGE = 2000
"""Rows read at a time where there may be any number of them."""

_NODE = ", ".join(f"nodes.{column}" for column in COLUMNS.split(", "))
_CACHED = """
    CASE WHEN objects.node IS NULL THEN 0 WHEN objects.sealed_at IS NOT NULL THEN objects.size
    ELSE (SELECT coalesce(sum(stop - start), 0) FROM extents WHERE extents.node = objects.node) END
"""
_STATE = f"objects.sealed_at IS NOT NULL, {_CACHED}, coalesce(objects.occupied, 0), objects.used_at"
_STATES = 4
# As `cache.space.footprint`.
_ROOM = f"""
    CASE WHEN nodes.size IS NULL THEN coalesce(objects.occupied, 0)
         ELSE (nodes.size + {BLOCK - 1}) / {BLOCK} * {BLOCK} + {2 * BLOCK} + nodes.size / 2048 END
"""
_FOLDER = f"""
    SELECT {_NODE}, {_STATE} FROM nodes LEFT JOIN objects ON objects.node = nodes.id
    WHERE nodes.parent = ? AND nodes.current = 1 ORDER BY nodes.name
"""  # noqa: S608
_OBJECTS = f"""
    SELECT {_NODE}, {_STATE} FROM objects JOIN nodes ON nodes.id = objects.node
    WHERE objects.node > ?1 AND (?2 = 0 OR nodes.source = ?2) AND nodes.current < ?3
    ORDER BY objects.node LIMIT ?4
"""  # noqa: S608
_HOLDING = """
    WITH RECURSIVE up (id) AS (
        SELECT nodes.parent FROM objects JOIN nodes ON nodes.id = objects.node
        WHERE nodes.source = ? AND nodes.current = 1
        UNION SELECT nodes.parent FROM nodes JOIN up ON nodes.id = up.id
    )
    SELECT id FROM up
"""
_IN_FOLDER = f"""
    SELECT nodes.id, nodes.name, nodes.kind, nodes.size, objects.sealed_at IS NOT NULL, {_CACHED}, {_ROOM}
    FROM nodes LEFT JOIN objects ON objects.node = nodes.id
    WHERE nodes.parent = ? AND nodes.current = 1
"""  # noqa: S608
_BELOW = f"""
    WITH RECURSIVE below (id, listed) AS (
        SELECT id, listed_at IS NOT NULL FROM nodes WHERE id = ? UNION ALL
        SELECT nodes.id, nodes.listed_at IS NOT NULL FROM below JOIN nodes ON nodes.parent = below.id
        WHERE nodes.current = 1 AND nodes.kind = 2
    )
    SELECT count(*), coalesce(sum(nodes.size), 0), coalesce(sum({_ROOM}), 0),
           coalesce(sum(objects.sealed_at IS NOT NULL), 0), coalesce(sum({_CACHED}), 0),
           coalesce(sum(nodes.size IS NULL), 0), (SELECT coalesce(sum(NOT listed), 0) FROM below)
    FROM below JOIN nodes ON nodes.parent = below.id LEFT JOIN objects ON objects.node = nodes.id
    WHERE nodes.current = 1 AND nodes.kind = 1
"""  # noqa: S608
_TOTALS = """
    SELECT nodes.source, nodes.current, objects.sealed_at IS NOT NULL, count(*), sum(objects.occupied)
    FROM objects JOIN nodes ON nodes.id = objects.node GROUP BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One name of a source, and what is here of it."""

    node: Node
    complete: bool
    cached: int
    """Bytes of it that are here."""
    occupied: int
    """Bytes of disk that they take."""
    used_at: float | None
    """Epoch seconds of the last open; None: nothing is here."""

    @property
    def percent(self) -> float | None:
        """How much of a file is here; None: its size is not known, or it is a folder."""
        if self.node.kind is Kind.FOLDER:
            return None
        if self.complete:
            return 100.0
        if not self.node.size:
            return None if self.node.size is None else 0.0
        return 100 * self.cached / self.node.size


@dataclass(slots=True)
class Tally:
    """Sums over files."""

    files: int = 0
    bytes: int = 0
    """Of the sizes that are known."""
    room: int = 0
    """Bytes of disk that they take at most when they are complete."""
    cached_files: int = 0
    """Complete ones."""
    cached_bytes: int = 0
    unsized: int = 0
    """Files whose size nobody has told."""
    unlisted: int = 0
    """Folders that were never listed: what is in them is not counted."""

    def add(self, other: Tally) -> None:
        """Add the sums of other files."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(slots=True)
class SourceTotals:
    """What one source has in the cache."""

    source: str
    """URL."""
    complete: int = 0
    """Complete files of current versions."""
    partial: int = 0
    """Incomplete ones."""
    occupied: int = 0
    """Bytes of disk that all objects of the source take."""
    superseded: int = 0
    """Objects of versions that are past, complete or not."""
    superseded_bytes: int = 0
    """Bytes of disk that they take."""
    pinned_bytes: int = 0
    """Bytes of disk that cached files take which are pinned."""


class Survey:
    """Asks the index of one cache. For threads; every method raises `CacheBroken` when that fails."""

    def __init__(self, tree: Tree, reader: Reader, pins: Pins) -> None:
        self._tree = tree
        self._reader = reader
        self._pins = pins

    def folder(self, folder: int) -> list[Surveyed]:
        """The current entries of a folder by name."""
        return self._reader.made(_surveyed, _FOLDER, folder)

    def holding(self, source: int) -> set[int]:
        """The folders of a source below which anything is cached."""
        return {row[0] for row in self._reader.all(_HOLDING, source)}

    def objects(self, source: int = 0, *, past_only: bool = False) -> Iterator[tuple[str, Surveyed]]:
        """Every object of a source (0: of all), those of past versions too, each with its path."""
        after = 0
        while page := self._reader.made(_surveyed, _OBJECTS, after, source, 1 if past_only else 2, PAGE):
            folders: dict[int, str] = {}
            for found in page:
                parent = found.node.parent
                if parent not in folders:
                    folders[parent] = self._tree.path(parent)
                folder = folders[parent]
                yield (f"{folder}/{found.node.name}" if folder else found.node.name), found
            after = page[-1].node.id

    def tally(self, source: int, patterns: Patterns) -> Tally:
        """Sum up the files of a source that match, as far as its folders were listed."""
        total = Tally()
        folders = [("", source)]
        while folders:
            path, folder = folders.pop()
            if patterns.matches(path):
                # Then everything below does as well, and SQLite adds up faster than we can look.
                total.add(Tally(*(self._reader.one(_BELOW, folder) or ())))
                continue
            node = self._tree.node(folder)
            total.unlisted += node is None or node.listed_at is None
            for id_, name, kind, size, complete, cached, room in self._reader.all(_IN_FOLDER, folder):
                child = f"{path}/{name}" if path else name
                if kind == Kind.FOLDER:
                    if patterns.may_match_below(child):
                        folders.append((child, id_))
                elif patterns.matches(child):
                    total.add(Tally(1, size or 0, room, complete, cached, int(size is None)))
        return total

    def pinned(self) -> Tally:
        """Sum up everything that is pinned."""
        total = Tally()
        for source in {pin.source for pin in self._pins.all()}:
            root = self._tree.child(0, source)
            patterns = None if root is None else self._pins.of(root.id)
            if root is not None and patterns is not None:
                total.add(self.tally(root.id, patterns))
        return total

    def totals(self) -> list[SourceTotals]:
        """What each source has here, by URL."""
        by_id = {root.id: SourceTotals(url) for url, root in self._tree.sources()}
        for source, current, complete, count, occupied in self._reader.all(_TOTALS):
            total = by_id[source]
            total.occupied += occupied
            if not current:
                total.superseded += count
                total.superseded_bytes += occupied
            elif complete:
                total.complete += count
            else:
                total.partial += count
        for source, total in by_id.items():
            patterns = self._pins.of(source)
            if patterns is not None:
                total.pinned_bytes = sum(
                    found.occupied
                    for path, found in self.objects(source)
                    if found.node.current and patterns.matches(path)
                )
        return sorted(by_id.values(), key=lambda total: total.source)


def _surveyed(row: Row) -> Surveyed:
    complete, cached, occupied, used_at = row[-_STATES:]
    return Surveyed(node_of(row[:-_STATES]), complete == 1, cached, occupied, used_at)
