"""Reading ahead over a folder: whoever opens its files in order gets the next ones in advance.

Most readers of many small files walk a folder in listing order. Two opens near each other start a
walk; from then on a window of small files is fetched ahead of the reader, doubling while it is
used. Files that are registered are opened without a word to us, so a few of each window are left
unregistered, its *tripwires*: the open of one reaches us and moves the window on.

This module only decides; the fetcher fetches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cache import Kind, Node

NEIGHBOURHOOD = 8
"""Two opens at most this many entries apart look like a walk."""
FIRST_WINDOW = 8
LARGEST_WINDOW = 128
"""Files of the first and of the largest window."""
WINDOW_BYTES = 64 * 1024 * 1024
"""Most bytes of one window."""
LARGEST_FILE = 16 * 1024 * 1024
"""Larger files are not fetched before they are asked for."""
TRIPWIRES = 4
"""Of a window, all in its second half: whoever passes over the first will hardly pass over all."""
WALKS = 64
"""Folders whose walks are remembered."""


@dataclass(slots=True)
class _Walk:
    """Where a reader is in one folder. Positions are `Node.entry` values, which order a folder."""

    last: int
    """The newest open."""
    planned: int
    """The last entry of the window."""
    trip: int
    """An open at or behind this entry moves the window on."""
    window: int
    """Files of the next window; 0: not known to be a walk yet."""
    tripwires: frozenset[int] = frozenset()
    """Entries of files that stay unregistered."""


class ReadAhead:
    """Turns the opens that reach us into windows of nodes to fetch."""

    def __init__(self, children: Callable[[int, int, int], Sequence[Node]]) -> None:
        """``children(folder, after, limit)`` gives entries of a folder in their order."""
        self._children = children
        self._walks: OrderedDict[int, _Walk] = OrderedDict()

    def opened(self, node: Node) -> list[Node]:
        """Note an open; returns the nodes to fetch ahead now, often none."""
        walk = self._walks.get(node.parent)
        if walk is None:
            self._walks[node.parent] = _Walk(node.entry, node.entry, node.entry, 0)
            if len(self._walks) > WALKS:
                self._walks.popitem(last=False)
            return []
        self._walks.move_to_end(node.parent)
        previous, walk.last = walk.last, node.entry
        if walk.window and previous - NEIGHBOURHOOD <= node.entry <= walk.planned + NEIGHBOURHOOD:
            if node.entry < walk.trip:
                walk.last = max(previous, node.entry)
                return []
            return self._extend(walk, node)
        if self._adjacent(node, previous):
            walk.window, walk.planned = FIRST_WINDOW, node.entry
            return self._extend(walk, node)
        walk.window, walk.planned = 0, node.entry
        return []

    def is_tripwire(self, node: Node) -> bool:
        """Whether a file ahead of a reader should stay unregistered until it is opened."""
        walk = self._walks.get(node.parent)
        return walk is not None and node.entry in walk.tripwires and node.entry > walk.last

    def _adjacent(self, node: Node, previous: int) -> bool:
        if node.entry <= previous:
            return False
        return any(near.entry == node.entry for near in self._children(node.parent, previous, NEIGHBOURHOOD))

    def _extend(self, walk: _Walk, node: Node) -> list[Node]:
        after = max(walk.planned, node.entry)
        window: list[Node] = []
        budget = WINDOW_BYTES
        for child in self._children(node.parent, after, walk.window):
            walk.planned = child.entry
            if child.kind is Kind.FILE and child.size is not None and child.size <= LARGEST_FILE:
                budget -= child.size
                window.append(child)
            if budget <= 0:
                break
        # Move on when the reader is half through what is planned.
        walk.trip = node.entry + (walk.planned - node.entry) // 2
        walk.window = min(LARGEST_WINDOW, walk.window * 2)
        behind = [child.entry for child in window if child.entry >= walk.trip]
        walk.tripwires = frozenset(behind[:: -(-len(behind) // TRIPWIRES) or 1])
        return window
