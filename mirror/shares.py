"""Which files are this process's to fetch, where several warm one source: they take turns at neighbours.

A *stretch* is what is missing of a few neighbours of one folder. Whoever takes it fetches it, and keeps its
turn until all of it is safe on disk: so who comes by later finds either that it is taken, or all of it in
the index. Both are one question for many files; nobody looks at the files of others one by one, which would
cost each process as much as fetching them. The turns only save work: that each file is fetched once is what
its lease is for.

What others have is put off. In the end, when they take long, it is helped with: see `Shares.to_help_with`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import trio

from cache import Cache, Node
from mirror.selection import File

NEIGHBOURS = 16
"""Files of one stretch at most."""
LARGE = 1024 * 1024
"""Bytes from which on a file is a stretch of its own."""
_SINGLE = 1 << 61
"""From here on a turn's number stands for one file."""
_NOBODYS = -1
"""The number of what is fetched without a turn."""
HELP_AFTER = 0.25
"""Seconds without any of what others have becoming complete after which they are helped."""


class Stretch:
    """Neighbours that this process fetches."""

    __slots__ = ("files", "left", "missing", "number")

    def __init__(self, number: int, files: Sequence[File]) -> None:
        self.number = number
        self.files = files
        self.left = len(files)
        """How many are still to be fetched."""
        self.missing = {node.id for _, node in files}
        """Those that the index does not have, as far as they could be fetched."""

    def ended(self, node: Node, *, failed: bool) -> None:
        """One of them was fetched, or could not be."""
        self.left -= 1
        if failed:
            self.missing.discard(node.id)


class Shares:
    """What this process has, and what it has put off."""

    def __init__(self, cache: Cache) -> None:
        self.others = False
        """Another process was seen to fetch the same."""
        self._objects = cache.objects
        self._turns = cache.turns
        self._mine: list[Stretch] = []
        self._taken: Counter[int] = Counter()
        """How many of them have a number: the neighbours of a stretch may be in two pages, or two folders."""
        self._put_off: list[Stretch] = []
        self._came_at = 0.0
        """When the last of what is put off was seen to be complete, or nothing was put off."""

    @property
    def put_off(self) -> int:
        """How many files are put off."""
        return sum(len(stretch.files) for stretch in self._put_off)

    @property
    def under_way(self) -> bool:
        """Whether anything that was taken is still to be fetched."""
        return any(stretch.left for stretch in self._mine)

    def look(self, files: Sequence[File]) -> tuple[list[tuple[File, int]], list[File]]:
        """Those that the index has, with their sizes, and those that are missing."""
        sizes = self._objects.complete_of([node.id for _, node in files])
        complete = [(file, sizes[file[1].id]) for file in files if file[1].id in sizes]
        return complete, [file for file in files if file[1].id not in sizes]

    def take(self, missing: Sequence[File]) -> Iterator[Stretch]:
        """Of files in the order of their folder: what is this process's to fetch; the rest is put off."""
        for number, neighbours in groupby(missing, _number):
            stretch = Stretch(number, [*neighbours])
            if self._take(stretch):
                yield stretch
            else:
                self._put(stretch)

    def settle(self) -> list[tuple[File, int]]:
        """Those of what was put off that are complete now, with their sizes."""
        complete, _ = self.look([file for stretch in self._put_off for file in stretch.files])
        if complete:
            ids = {node.id for (_, node), _ in complete}
            left = ([file for file in each.files if file[1].id not in ids] for each in self._put_off)
            self._put_off = [
                Stretch(each.number, files) for each, files in zip(self._put_off, left, strict=True) if files
            ]
            self._came_at = trio.current_time()
        return complete

    def take_again(self) -> list[Stretch]:
        """What was put off and is ours to fetch after all, for whoever had it has ended or failed."""
        taken = [stretch for stretch in self._put_off if self._take(stretch)]
        if taken:
            self._put_off = [stretch for stretch in self._put_off if stretch not in taken]
            self._came_at = trio.current_time()
        return taken

    def to_help_with(self) -> Stretch | None:
        """One file that others have and have not begun with, when they take long; None: there is none.

        It is any one of them: those who help would else all reach for the same.
        """
        if trio.current_time() - self._came_at < HELP_AFTER:
            return None
        candidates = [(stretch, file) for stretch in self._put_off for file in stretch.files]
        random.shuffle(candidates)
        for stretch, file in candidates:
            # Few of them are: as many as others have jobs.
            if not self._objects.filled_by_another(file[1]):
                stretch.files = [other for other in stretch.files if other is not file]
                if not stretch.files:
                    self._put_off.remove(stretch)
                # The turn is another's.
                return Stretch(_NOBODYS, [file])
        return None

    def give_back(self) -> None:
        """End the turns at what is safe on disk, or could not be fetched."""
        fetched = [stretch for stretch in self._mine if not stretch.left]
        complete = self._objects.complete_of([id_ for stretch in fetched for id_ in stretch.missing])
        for stretch in fetched:
            if stretch.missing <= complete.keys():
                self._mine.remove(stretch)
                self._end(stretch)

    def give_back_all(self) -> None:
        """End all turns, whatever is still to be fetched."""
        for stretch in self._mine:
            self._end(stretch)
        self._mine.clear()

    def _take(self, stretch: Stretch) -> bool:
        if not self._taken[stretch.number] and not self._turns.take(stretch.number):
            return False
        self._taken[stretch.number] += 1
        self._mine.append(stretch)
        return True

    def _end(self, stretch: Stretch) -> None:
        self._taken[stretch.number] -= 1
        if not self._taken[stretch.number]:
            del self._taken[stretch.number]
            self._turns.give_back(stretch.number)

    def _put(self, stretch: Stretch) -> None:
        self.others = True
        if not self._put_off:
            self._came_at = trio.current_time()
        self._put_off.append(stretch)


def _number(file: File) -> int:
    node = file[1]
    return node.entry // NEIGHBOURS if (node.size or 0) < LARGE else _SINGLE + node.entry
