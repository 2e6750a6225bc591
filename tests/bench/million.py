"""A cache of 1,000,000 files, for the rows that show what does not grow with a cache.

The index is what the real code makes of it: names by listings, objects as they are sealed. Files are made
for one folder of 10,000 only, for nothing that is measured looks at the others': a million inodes would
take minutes and say nothing more. It is kept from run to run in the folder of the scratch folders,
and what is measured uses a copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import trio

from cache import Cache, Entry, Kind, Node, rows
from cache.index import NAME
from cache.rows import Payer, Sealed

URL = "http://million.invalid/data/"
"""Of the source while it is made; a copy gets the URL of its origin."""
FOLDER = 10_000
"""Files in a folder."""
SIZE = 100_000
"""Bytes of a file."""
MTIME_NS = 1_700_000_000_000_000_000
OCCUPIED = 106_496
"""Bytes of disk of an object of `SIZE`."""
BATCH = 1_000
LISTED_AT = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Million:
    """A cache, and what is in it."""

    cache: Path
    folders: int

    @property
    def files(self) -> int:
        """How many files it knows, all of them complete."""
        return self.folders * FOLDER


def folder_name(number: int) -> str:
    """Name of a folder of the source."""
    return f"part-{number:04d}"


def file_name(number: int) -> str:
    """Name of a file in any folder."""
    return f"sample-{number:06d}.bin"


def origin(root: Path, folders: int) -> None:
    """Make the origin's folders; the files are made in the first one only, and are sparse."""
    for number in range(folders):
        (root / folder_name(number)).mkdir(parents=True)
    for number in range(FOLDER):
        path = root / folder_name(0) / file_name(number)
        with path.open("wb") as file:
            file.truncate(SIZE)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))


@contextmanager
def copy(parent: Path, scratch: Path, folders: int, url: str) -> Iterator[Million]:
    """A copy of the cache with so many folders, as that of a source at ``url``.

    Args:
        parent: where the original is kept, made when it is not there.
        scratch: where the copy is, for as long as this context.
        folders: of `FOLDER` files each.
        url: canonical.
    """
    kept = parent / f"mirror-bench-million-{folders}-{_version()}"
    if not kept.exists():
        for old in parent.glob(f"mirror-bench-million-{folders}-*"):
            shutil.rmtree(old)
        making = scratch / "million-making"
        trio.run(_make, making, folders)
        making.rename(kept)
    cache = scratch / "million"
    # Not `copytree`: the sparse files would become large ones.
    subprocess.run(["cp", "--archive", "--sparse=always", str(kept), str(cache)], check=True)
    try:
        with sqlite3.connect(cache / NAME) as db:
            db.execute("UPDATE nodes SET name = ? WHERE parent = 0", (url,))
        db.close()
        yield Million(cache, folders)
    finally:
        shutil.rmtree(cache)


def _version() -> str:
    """Changes with everything that the kept cache depends on."""
    sources = [Path(__file__), *sorted(Path(rows.__file__).parent.glob("*.sql"))]
    return sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]


async def _make(path: Path, folders: int) -> None:
    entries = [Entry(file_name(number), Kind.FILE, SIZE, MTIME_NS) for number in range(FOLDER)]
    async with Cache.open(path) as cache:
        root = await cache.tree.root(URL)
        names = [Entry(folder_name(number), Kind.FOLDER) for number in range(folders)]
        await cache.tree.put_listing(root.id, names, validator=None, at=LISTED_AT)
        for folder in cache.tree.children(root.id, limit=folders):
            await cache.tree.put_listing(folder.id, entries, validator=None, at=LISTED_AT)
            nodes = cache.tree.children(folder.id, limit=FOLDER)
            has_files = folder.name == folder_name(0)
            sealed = [_sealed(node, _object(path, node.key) if has_files else node.id) for node in nodes]
            for first in range(0, FOLDER, BATCH):
                some = sealed[first : first + BATCH]
                put = partial(rows.put_sealed, objects=some, payer=Payer(capacity=1 << 50))
                await cache.tree._writer.run(put)


def _sealed(node: Node, inode: int) -> Sealed:
    crc, sums = node.id & 0xFFFFFFFF, node.key[:8]  # of the right form: no bytes of these are ever read
    return Sealed(node.id, inode, SIZE, OCCUPIED, crc=crc, sums=sums)


def _object(cache: Path, key: bytes) -> int:
    """Make the file of an object, sparse; returns its inode number."""
    name = key.hex()
    path = cache / "objects" / name[:2] / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, SIZE)
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)
