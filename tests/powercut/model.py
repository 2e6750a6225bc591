"""What may be on a disk after a power cut: the model.

Its sources are POSIX (``fsync``, ``fdatasync``), the manual pages of Linux, and what ext4 and xfs do in
their usual modes (metadata is journalled, data is not). Where they differ, the weaker promise counts. A
cut *at* ``k`` is one after the first ``k`` operations of a record were completed. Then

- **data**: what was written to a file before its last completed ``fsync`` or ``fdatasync``, or a ``syncfs``,
  is there. What was written since may be there or not, block by block, independently, and of a block that
  was written several times any one of its contents. A block has 4 KiB, in some states 512 bytes (a sector).
- **length**: any that the file had since then. Where it is longer than what survived, zeros are read.
- **cuts and holes** (``ftruncate``, ``fallocate``): there or not, in their order; durable as data is. What
  was written to a file after one that was lost is lost as well: it went to other blocks.
- **names** (``creat``, ``mkdir``, ``link``, ``rename``, ``unlink``): durable once their *folder* was synced
  (``fsync``; also ``fdatasync``, as the names are a folder's data, and SQLite does so), or by ``syncfs``.
  That ext4 also makes a new file's name durable when the file itself is synced is not relied on. A rename
  within a folder is there or not, never half of it; between folders it is two changes.
- **attributes and modes**: durable by ``fsync`` of the file or ``syncfs``; ``fdatasync`` need not.
- ``sync_file_range`` promises nothing, and neither do ``close`` or the end of a process.

Which of the changes to names, attributes and lengths that are not durable survive is chosen in one of
three orders:

- ``JOURNAL``: some of the first ones in the order in which they were made, as ext4, xfs and btrfs do; so
  a durable one brings all earlier ones with it.
- ``FOLDERS``: the same for each folder, and each file's own attributes and length, independently.
- ``NAMES``: the same for each name in each folder (names that were renamed to each other are one).

A cut within an operation is among those: within a write, where only some of its blocks survived; within a
barrier, where all is as if it had not been called.

What is not modelled: bytes that the disk destroys although they were durable (a cache that lies, a
torn sector); blocks that hold another file's old bytes (``data=writeback`` of ext4), of which zeros in
their place are the kinder form; the recorded folder itself, which is taken as durable.

*Numbers*. Inode numbers are those of the record, where no number was given twice. Real file systems do
give the number of a file that is gone (no name, no descriptor) to the next new one. So some states say
that a file has the number of an earlier one, which was gone before it was made and is not there now
(`State.reused`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

from tests.powercut.contents import Fate, contents, perform
from tests.powercut.recorder import Kind, Op


class Order(Enum):
    """Which changes of names, attributes and lengths may be lost while others survive."""

    JOURNAL = auto()
    FOLDERS = auto()
    NAMES = auto()


class Survival(Enum):
    """How much of what is not durable survives."""

    NOTHING = auto()
    ALL = auto()
    METADATA = auto()
    """All names, attributes and lengths; of data nothing."""
    SOME = auto()
    """Anything that is legal."""


@dataclass(frozen=True, slots=True)
class FileState:
    """One file as it is found."""

    data: bytes
    mode: int
    attributes: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class State:
    """What is found after a cut."""

    folders: Sequence[str]
    """Paths, those of parents first."""
    names: dict[str, int]
    """Path → number of the file."""
    files: dict[int, FileState]
    reused: dict[int, int] = field(default_factory=dict)
    """Number that a file has in the record → the one it has here, of a file that was gone before."""
    how: str = ""
    """How this state was chosen."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of metadata that may be lost as a whole."""

    number: int
    entries: tuple[tuple[int, str, int | None], ...] = ()
    """(folder, name, the file or folder that is there now)."""
    attributes: tuple[int, str, bytes | int | None] | None = None
    """(file, attribute, value); the attribute "" is the mode."""
    shape: int | None = None
    """File that was cut or got a hole: what was done is among its `_File.pending`."""


@dataclass(slots=True)
class _File:
    safe: bytearray = field(default_factory=bytearray)
    """What is durable."""
    pending: list[tuple[int, Op]] = field(default_factory=list)
    """Writes, cuts and holes since then, with their numbers."""
    attributes: dict[str, bytes | int] = field(default_factory=dict)
    """Durable ones."""
    made: int = 0
    gone: int | None = None
    """When its last name and descriptor went."""
    last_name: str = ""
    links: int = 0
    opens: int = 0


class Disk:
    """The disk while operations go by: what is durable, and what may be lost."""

    def __init__(self) -> None:
        self._number = 0
        self._root = 0
        self._files: dict[int, _File] = {}
        self._folders: dict[int, dict[str, int]] = {}  # durable
        self._live: dict[int, dict[str, int]] = {}  # as the running system sees it
        self._pending: list[_Change] = []
        self._durable = -1  # number of the last change that is
        self._aliases: dict[tuple[int, str], tuple[int, str]] = {}

    # -- what happens ------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """One operation is completed."""
        match op.kind:
            case Kind.CREATE:
                file = _File(made=self._number, attributes={"": op.length})
                self._files[op.inode] = file
                self._enter(op.path, op.inode)
            case Kind.MKDIR:
                self._folders[op.inode] = {}
                self._live[op.inode] = {}
                if op.path:
                    self._enter(op.path, op.inode)
                else:
                    self._root = op.inode
            case Kind.LINK:
                self._enter(op.path, op.inode)
            case Kind.UNLINK:
                folder, name = self._place(op.path)
                self._entries((folder, name, None))
            case Kind.RENAME:
                self._rename(op)
            case Kind.WRITE:
                self._files[op.inode].pending.append((self._number, op))
            case Kind.TRUNCATE | Kind.ALLOCATE:
                self._files[op.inode].pending.append((self._number, op))
                self._pending.append(_Change(self._number, shape=op.inode))
            case Kind.SETXATTR:
                self._attribute(op.inode, op.other, op.data)
            case Kind.REMOVEXATTR:
                self._attribute(op.inode, op.other, None)
            case Kind.CHMOD:
                self._attribute(op.inode, "", op.length)
            case Kind.FSYNC | Kind.FDATASYNC | Kind.SYNCFS:
                self._barrier(op)
            case Kind.OPEN | Kind.CLOSE:
                if op.inode in self._files:
                    self._files[op.inode].opens += 1 if op.kind is Kind.OPEN else -1
                    self._see_gone(op.inode)
            case Kind.EXIT:
                for inode, file in self._files.items():
                    file.opens = 0
                    self._see_gone(inode)
            case Kind.RANGE | Kind.MARK:
                pass
        self._number += 1

    def _place(self, path: str) -> tuple[int, str]:
        folder = self._root
        parent, name = posixpath.split(path)
        for part in parent.split("/") if parent else ():
            folder = self._live[folder][part]
        return folder, name

    def _enter(self, path: str, inode: int) -> None:
        folder, name = self._place(path)
        self._entries((folder, name, inode))

    def _rename(self, op: Op) -> None:
        old, new = self._place(op.path), self._place(op.other)
        if old == new:
            return
        if old[0] == new[0]:
            self._aliases[self._alias(old)] = self._alias(new)
            self._entries((*old, None), (*new, op.inode))
        else:  # first the new name, that the live count of names is never 0
            self._entries((*new, op.inode))
            self._entries((*old, None))

    def _alias(self, place: tuple[int, str]) -> tuple[int, str]:
        while place in self._aliases and self._aliases[place] != place:
            place = self._aliases[place]
        return place

    def _entries(self, *entries: tuple[int, str, int | None]) -> None:
        self._pending.append(_Change(self._number, entries))
        touched = []
        for folder, name, inode in entries:
            before = self._live[folder].pop(name, None)
            if before in self._files:
                self._files[before].links -= 1
                self._files[before].last_name = name
                touched.append(before)
            if inode is not None:
                self._live[folder][name] = inode
                if inode in self._files:
                    self._files[inode].links += 1
        for inode in touched:
            self._see_gone(inode)

    def _see_gone(self, inode: int) -> None:
        file = self._files[inode]
        if file.links == 0 and file.opens <= 0 and file.gone is None:
            file.gone = self._number

    def _attribute(self, inode: int, name: str, value: bytes | int | None) -> None:
        self._pending.append(_Change(self._number, attributes=(inode, name, value)))

    def _barrier(self, op: Op) -> None:
        def covered(change: _Change) -> bool:
            if op.kind is Kind.SYNCFS:
                return True
            if change.attributes is not None:
                return op.kind is Kind.FSYNC and change.attributes[0] == op.inode
            if change.shape is not None:
                return change.shape == op.inode
            return change.entries[0][0] == op.inode

        done = [change for change in self._pending if covered(change)]
        if done:
            self._durable = max(self._durable, done[-1].number)
            self._pending = [change for change in self._pending if not covered(change)]
        for change in done:
            _make(change, self._folders, lambda inode: self._files[inode].attributes)
        for inode in self._files if op.kind is Kind.SYNCFS else (op.inode,):
            file = self._files.get(inode)
            if file is not None:
                for _, write in file.pending:
                    perform(file.safe, write)
                file.pending.clear()

    # -- what may be found -------------------------------------------------------------------

    def state(self, survival: Survival, rng: Random) -> State:
        """One legal state after a cut now. ``rng`` is asked even where nothing is left to chance."""
        order = rng.choice(list(Order))
        survivors = self._survivors(survival, order, rng)
        kept = {change.number for change in survivors}
        folders = {inode: dict(names) for inode, names in self._folders.items()}
        attributes: dict[int, dict[str, bytes | int]] = {}

        def attributes_of(inode: int) -> dict[str, bytes | int]:
            if inode not in attributes:
                attributes[inode] = dict(self._files[inode].attributes)
            return attributes[inode]

        for change in survivors:
            _make(change, folders, attributes_of)
        paths, names = _walk(self._root, folders)
        lost = {change.number for change in self._pending if change.number not in kept}
        block = 512 if rng.random() < 0.2 else 4096
        files = {}
        for path, inode in sorted(names.items()):
            if inode not in files:
                fate = _fate(survival, path, rng)
                file = self._files[inode]
                data = contents(file.safe, file.pending, lost, fate, block, rng)
                files[inode] = _file_state(data, attributes_of(inode))
        reused = self._reused(names, rng)
        how = f"{survival.name} {order.name}, {len(survivors)} of {len(self._pending)} changes"
        return State(paths, names, files, reused, how)

    def _survivors(self, survival: Survival, order: Order, rng: Random) -> list[_Change]:
        """The changes that are not durable and are there all the same."""
        groups: dict[object, list[_Change]] = {}
        for change in self._pending:
            groups.setdefault(self._group(change, order), []).append(change)
        survivors = []
        for changes in groups.values():
            # In a journal what is durable has brought with it all that was before.
            least = sum(change.number < self._durable for change in changes) if order is Order.JOURNAL else 0
            most = len(changes)
            some = rng.choice((least, most, rng.randint(least, most)))
            count = {Survival.NOTHING: least, Survival.SOME: some}.get(survival, most)
            survivors += changes[:count]
        return sorted(survivors, key=lambda change: change.number)

    def _group(self, change: _Change, order: Order) -> object:
        """What the change keeps its order with."""
        if order is Order.JOURNAL:
            return None
        if change.attributes is not None:
            return "attributes", change.attributes[0]
        if change.shape is not None:
            return "shape", change.shape
        folder, name, _ = change.entries[0]
        return folder if order is Order.FOLDERS else self._alias((folder, name))

    def _reused(self, names: dict[str, int], rng: Random) -> dict[int, int]:
        """Files that have the number of an earlier one, mostly of one that had their own name."""
        if rng.random() < 0.7:
            return {}
        there = set(names.values())
        spare = [(inode, file) for inode, file in self._files.items() if inode not in there]
        reused: dict[int, int] = {}
        for path, inode in sorted(names.items()):
            if _of_index(path) or inode in reused:
                continue
            made = self._files[inode].made
            fit = [
                (old, file)
                for old, file in spare
                if file.gone is not None and file.gone <= made and old not in reused.values()
            ]
            same = [old for old, file in fit if _stem(file.last_name) == _stem(path)]
            if same and rng.random() < 0.5:
                reused[inode] = rng.choice(same)
            elif fit and rng.random() < 0.05:
                reused[inode] = rng.choice(fit)[0]
        return reused


def states(ops: Sequence[Op], at: int, count: int, rng: Random) -> Iterator[State]:
    """Legal states after a cut at ``at``: the extremes first, then any."""
    disk = Disk()
    for op in ops[:at]:
        disk.apply(op)
    first = (Survival.NOTHING, Survival.ALL, Survival.METADATA)
    for number in range(count):
        yield disk.state(first[number] if number < len(first) else Survival.SOME, rng)


def _make(
    change: _Change,
    folders: dict[int, dict[str, int]],
    attributes_of: Callable[[int], dict[str, bytes | int]],
) -> None:
    for folder, name, inode in change.entries:
        if inode is None:
            folders[folder].pop(name, None)
        else:
            folders[folder][name] = inode
    if change.attributes is not None:
        file, attribute, value = change.attributes
        if value is None:
            attributes_of(file).pop(attribute, None)
        else:
            attributes_of(file)[attribute] = value


def _walk(root: int, folders: dict[int, dict[str, int]]) -> tuple[list[str], dict[str, int]]:
    """Paths of all folders that can be reached, and of all files."""
    paths: list[str] = []
    names: dict[str, int] = {}
    left = [("", root)]
    while left:
        place, folder = left.pop()
        for name, inode in folders[folder].items():
            path = f"{place}{name}"
            if inode in folders:
                paths.append(path)
                left.append((f"{path}/", inode))
            else:
                names[path] = inode
    return paths, names


def _fate(survival: Survival, path: str, rng: Random) -> Fate:
    """What becomes of a file's writes.

    Half of the time the index keeps its own: rows that are there while bytes are not are what a cache
    has to fear.
    """
    if survival is not Survival.SOME:
        fates = {Survival.NOTHING: Fate.NONE, Survival.ALL: Fate.ALL, Survival.METADATA: Fate.LENGTH}
        return fates[survival]
    if _of_index(path):
        return rng.choice((Fate.ALL, Fate.ALL, Fate.NONE, Fate.SOME))
    return rng.choice((Fate.ALL, Fate.NONE, Fate.LENGTH, Fate.SOME, Fate.SOME))


def _file_state(data: bytes, attributes: dict[str, bytes | int]) -> FileState:
    mode = attributes[""]
    assert isinstance(mode, int)
    return FileState(
        data, mode, {name: value for name, value in attributes.items() if isinstance(value, bytes)}
    )


def _stem(path: str) -> str:
    return posixpath.basename(path).removesuffix(".part")


def _of_index(path: str) -> bool:
    return "/" not in path


def whole(ops: Iterable[Op]) -> State:
    """What the running system sees after all operations."""
    disk = Disk()
    for op in ops:
        disk.apply(op)
    return disk.state(Survival.ALL, Random(0))
