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
LOOKED_AT = 64
"""Files that are looked at one by one, at most, before others have their turn."""
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

    def ended(self, node: Node, *, here: bool) -> None:
        """One of them was fetched here; or by others, as another node, or not at all."""
        self.left -= 1
        if not here:
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
        self._put_off: list[tuple[int, list[File]]] = []
        """What others have, by the numbers of their turns."""
        self._complete: list[File] = []
        """What others have completed, as far as could be seen, and the index does not know yet."""
        self._failed: set[int] = set()
        """Ids of files that could not be had."""
        self._came_at = 0.0
        """When the last of what is put off was seen to be complete, or nothing was put off."""

    @property
    def put_off(self) -> int:
        """How many files are put off."""
        return sum(len(files) for _, files in self._put_off) + len(self._complete)

    def look(self, files: Sequence[File]) -> tuple[list[tuple[File, int]], list[File]]:
        """Those that the index has, with their sizes, and those that are missing."""
        sizes = self._objects.complete_of([node.id for _, node in files])
        complete = [(file, sizes[file[1].id]) for file in files if file[1].id in sizes]
        return complete, [file for file in files if file[1].id not in sizes]

    def take(self, missing: Sequence[File]) -> Iterator[Stretch]:
        """Of files in the order of their folder: what is this process's to fetch; the rest is put off."""
        for number, neighbours in groupby(missing, _number):
            files = [file for file in neighbours if file[1].id not in self._failed]
            if not files:
                continue
            if (stretch := self._take(number, files)) is None:
                self.others = True
                if not self._put_off:
                    self._came_at = trio.current_time()
                self._put_off.append((number, files))
            elif stretch.files:
                yield stretch

    def settle(self) -> list[tuple[File, int]]:
        """Those of what was put off that are complete now, with their sizes."""
        complete, _ = self.look([*self._complete, *(file for _, files in self._put_off for file in files)])
        if complete:
            self._drop({node.id for (_, node), _ in complete})
            self._came_at = trio.current_time()
        return complete

    def wait_for(self, file: File) -> None:
        """Put off a file that was found complete, and that the index does not know as such yet."""
        self._complete.append(file)

    def forget(self, node: int) -> bool:
        """Drop a file that could not be had; False: it was already."""
        if node in self._failed:
            return False
        self._failed.add(node)
        self._drop({node})
        return True

    def _drop(self, ids: set[int]) -> None:
        def left(files: Sequence[File]) -> list[File]:
            return [file for file in files if file[1].id not in ids]

        self._complete = left(self._complete)
        self._put_off = [(number, rest) for number, files in self._put_off if (rest := left(files))]

    def take_again(self) -> list[Stretch]:
        """What was put off and is ours to fetch after all, for whoever had it has ended or failed."""
        put_off, self._put_off = self._put_off, []
        taken: list[Stretch] = []
        for number, files in put_off:
            if (stretch := self._take(number, files)) is not None:
                taken.append(stretch)
            else:
                self._put_off.append((number, files))
        if taken:
            self._came_at = trio.current_time()
        return taken

    def to_help_with(self) -> Stretch | None:
        """One file that others have and have not begun with, when they take long; None: there is none.

        It is any one of them: those who help would else all reach for the same.
        """
        if trio.current_time() - self._came_at < HELP_AFTER:
            return None
        if self._complete:
            # Whoever completed it is about to make it safe, or has died before.
            file = self._complete.pop(0)
            if not self._objects.state(file[1]).complete:
                return Stretch(_NOBODYS, [file])
            self._complete.append(file)
        candidates = [file for _, files in self._put_off for file in files]
        for file in random.sample(candidates, min(LOOKED_AT, len(candidates))):
            # Few of them are: as many as others have jobs.
            if self._objects.filled_by_another(file[1]):
                continue
            self._drop({file[1].id})
            if not self._objects.state(file[1]).complete:
                # The turn is another's.
                return Stretch(_NOBODYS, [file])
            self._complete.append(file)
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

    def _take(self, number: int, files: Sequence[File]) -> Stretch | None:
        if not self._taken[number] and not self._turns.take(number):
            return None
        self._taken[number] += 1
        # It may be some time since they were looked at, and another process had the turn meanwhile.
        complete, missing = self.look(files)
        self._complete += [file for file, _ in complete]
        stretch = Stretch(number, missing)
        self._mine.append(stretch)
        return stretch

    def _end(self, stretch: Stretch) -> None:
        self._taken[stretch.number] -= 1
        if not self._taken[stretch.number]:
            del self._taken[stretch.number]
            self._turns.give_back(stretch.number)


def _number(file: File) -> int:
    node = file[1]
    return node.entry // NEIGHBOURS if (node.size or 0) < LARGE else _SINGLE + node.entry
