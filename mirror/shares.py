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

    def missing(self, files: Sequence[File]) -> list[File]:
        """Those that the index does not have."""
        complete = self._objects.complete_of([node.id for _, node in files])
        return [file for file in files if file[1].id not in complete]

    def take(self, files: Sequence[File]) -> Iterator[Stretch]:
        """Of files in the order of their folder: what is this process's to fetch; the rest is put off."""
        for number, neighbours in groupby(files, lambda file: file[1].entry // NEIGHBOURS):
            stretch = Stretch(number, [*neighbours])
            if self._take(stretch):
                yield stretch
            else:
                self._put(stretch)

    def take_again(self) -> tuple[list[File], list[Stretch]]:
        """Look again at what was put off: what is complete now, and what is ours to fetch after all."""
        stretches, self._put_off = self._put_off, []
        missing = {node.id for _, node in self.missing([file for each in stretches for file in each.files])}
        complete: list[File] = []
        taken: list[Stretch] = []
        for stretch in stretches:
            complete += [file for file in stretch.files if file[1].id not in missing]
            left = Stretch(stretch.number, [file for file in stretch.files if file[1].id in missing])
            if not left.files:
                continue
            if self._take(left):
                taken.append(left)
            else:
                self._put_off.append(left)
        if complete or taken:
            self._came_at = trio.current_time()
        return complete, taken

    def to_help_with(self) -> Stretch | None:
        """One file that others have and have not begun with, when they take long; None: there is none.

        It is any one of them: those who help would else all reach for the same.
        """
        if trio.current_time() - self._came_at < HELP_AFTER:
            return None
        for stretch in random.sample(self._put_off, len(self._put_off)):
            (file,) = random.sample(stretch.files, 1)
            if not self._objects.filled_by_another(file[1]):
                stretch.files = [other for other in stretch.files if other is not file]
                if not stretch.files:
                    self._put_off.remove(stretch)
                # The turn is another's.
                return Stretch(-1, [file])
        return None

    def give_back(self) -> None:
        """End the turns at what is safe on disk, or could not be fetched."""
        fetched = [stretch for stretch in self._mine if not stretch.left]
        complete = self._objects.complete_of([id_ for stretch in fetched for id_ in stretch.missing])
        for stretch in fetched:
            if stretch.missing <= complete:
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
