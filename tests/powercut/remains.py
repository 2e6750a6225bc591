"""What a power cut left, in a folder: to be looked at, or to go on with.

The files of a state have the inode numbers that the record says, which the cache compares with its rows:
each is made of the very file that was recorded, which has a second name in `Record.keep` and gets the state's
bytes. So nothing is mended for the check: the cache finds what a power cut would have left. Only in states
with `State.reused` numbers the rows of the index are rewritten, to what they would be had the file system
given that number to the file in the first place: the bytes go into the earlier file, and
``objects.inode`` says so. A file that the check makes gets a number that no row has; that a new one is
not taken for an earlier one is shown elsewhere (it is empty, and rows that speak of more are not believed).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from cache.index import NAME
from tests.powercut import world
from tests.powercut.model import Disk, State, Survival
from tests.powercut.recorder import Kind, Op, Record


@dataclass(slots=True)
class Told:
    """What the recorded program had said before the cut."""

    listing: dict[str, int] = field(default_factory=world.first_listing)
    safe: set[tuple[str, int]] = field(default_factory=set)
    """Versions that were complete when `Objects.sync` had returned, and were not dropped since."""

    def hear(self, op: Op) -> None:
        words: dict[str, Any] = json.loads(op.path)
        if "listing" in words:
            self.listing = words["listing"]
        if "safe" in words:
            self.safe.update((name, version) for name, version in words["safe"])
        if "dropped" in words:
            name, version = words["dropped"]
            self.safe.discard((name, version))

    def say(self) -> Sequence[Op]:
        """The same again, for a record that goes on."""
        words = {"listing": self.listing, "safe": sorted(self.safe)}
        return [Op(Kind.MARK, path=json.dumps(words))]


def materialise(state: State, keep: Path, folder: Path) -> None:
    """Make ``folder`` what ``state`` says, of the files in ``keep``."""
    folder.mkdir(mode=0o700)
    for path in state.folders:
        (folder / path).mkdir(mode=0o700)
    sources = {inode: str(keep / str(state.reused.get(inode, inode))) for inode in state.files}
    for inode, file in state.files.items():
        # Cut at the end, not at the beginning: ext4 writes to the disk at once what was emptied first.
        fd = os.open(sources[inode], os.O_WRONLY)
        try:
            os.fchmod(fd, file.mode)
            for name in os.listxattr(fd):
                if name.startswith("user."):
                    os.removexattr(fd, name)
            for name, value in file.attributes.items():
                os.setxattr(fd, name, value)
            assert os.pwrite(fd, file.data, 0) == len(file.data)
            os.ftruncate(fd, len(file.data))
        finally:
            os.close(fd)
    for path, inode in state.names.items():
        os.link(sources[inode], folder / path)
    if state.reused:
        _renumber(folder / NAME, state)


def _renumber(index: Path, state: State) -> None:
    if not index.exists():
        return
    with closing(sqlite3.connect(index)) as db, db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'objects'").fetchone():
            db.executemany(
                "UPDATE objects SET inode = ? WHERE inode = ?",
                [(now, recorded) for recorded, now in state.reused.items()],
            )


def go_on(earlier: Record, folder: Path, seed: int) -> Record:
    """A record that begins with what a power cut left of an earlier one, somewhere in its second half.

    ``earlier`` has to stay where it is for as long as the new one is used: it keeps the numbers of its files.
    """
    rng = Random(f"{seed} goes on")
    ops = earlier.read()
    disk, told = Disk(), Told()
    for op in ops[: rng.randrange(len(ops) // 2, len(ops))]:
        disk.apply(op)
        if op.kind is Kind.MARK:
            told.hear(op)
    state = replace(disk.state(Survival.SOME, rng), reused={})
    record = Record.new(folder)
    record.root.rmdir()
    materialise(state, earlier.keep, record.root)
    for path in ("", *state.folders):
        (record.keep / str((record.root / path).stat().st_ino)).touch()
    for inode in state.files:
        os.link(earlier.keep / str(inode), record.keep / str(inode))
    record.begin([*_made(record.root, state), *told.say()])
    return record


def _made(root: Path, state: State) -> Iterator[Op]:
    """What makes a state of an empty folder."""
    top = root.stat().st_ino
    yield Op(Kind.MKDIR, top, length=0o700)
    for path in state.folders:
        yield Op(Kind.MKDIR, (root / path).stat().st_ino, path, length=0o700)
    seen: set[int] = set()
    for path, inode in state.names.items():
        if inode in seen:
            yield Op(Kind.LINK, inode, path)
            continue
        seen.add(inode)
        file = state.files[inode]
        yield Op(Kind.CREATE, inode, path, length=file.mode)
        yield Op(Kind.WRITE, inode, data=file.data, length=len(file.data))
        for name, value in file.attributes.items():
            yield Op(Kind.SETXATTR, inode, other=name, data=value)
    yield Op(Kind.SYNCFS, top)
