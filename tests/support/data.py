"""Files for an origin: bytes that tell where they belong, and times that tell versions apart.

Every byte of a test file follows from a seed and its offset, so that bytes of another version, of
another place or never written cannot pass for right ones.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from pathlib import Path

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

_BASE_TIME = 1_600_000_020
"""A whole minute."""

_times = itertools.count(_BASE_TIME, 60)


def noise(seed: object, size: int) -> bytes:
    """``size`` bytes that follow from ``seed``: the same in every process and run."""
    return random.Random(repr(seed)).randbytes(size)


def put(folder: Path, name: str, data: bytes, *, mtime: int | None = None) -> Path:
    """Place a file at an origin, or a new version of it, as one atomic step.

    Each call gets a modification time of its own, a whole minute after the one before: servers state
    minutes or seconds, and make their ETags of size and time.

    Args:
        folder: the origin's root.
        name: path below it; folders are made.
        data: all of the file.
        mtime: seconds since the epoch; None: the next free minute.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".draft-{os.getpid()}"
    draft.write_bytes(data)
    when = next(_times) if mtime is None else mtime
    os.utime(draft, (when, when))
    draft.replace(path)
    return path


def put_sparse(folder: Path, name: str, size: int, marks: dict[int, bytes]) -> Path:
    """Place a sparse file: zeros, but for ``marks`` (offset → bytes)."""
    path = folder / name
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in marks.items():
            file.seek(offset)
            file.write(data)
    return path


def flip(path: Path, at: int, bit: int = 0) -> None:
    """One bit of a file rots: its length and attributes stay."""
    with path.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1 << bit]))


def digest(path: Path) -> str:
    """SHA-256 of a file as it reads now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same; for large files quicker than two digests."""
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        while (piece := left.read(4 * MiB)) == right.read(4 * MiB):
            if not piece:
                return True
    return False


def tree(root: Path) -> dict[str, tuple[str, int, int]]:
    """What a walk of a folder finds: path → (kind, size, mtime in seconds); folders have neither."""
    found: dict[str, tuple[str, int, int]] = {}
    for folder, folders, files in os.walk(root, onerror=_raise):
        here = Path(folder)
        for name in folders:
            found[str((here / name).relative_to(root))] = ("folder", 0, 0)
        for name in files:
            stat = (here / name).stat()
            found[str((here / name).relative_to(root))] = ("file", stat.st_size, int(stat.st_mtime))
    return found


def _raise(error: OSError) -> None:
    raise error
