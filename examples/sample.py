"""A sample data set: many small files and some shards, the same bytes on every machine."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

FILES_PER_FOLDER = 250
CHANGED_AT = 1_700_000_000
"""Modification time of every file, in seconds since the epoch: validators stay the same, too."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a data set is."""

    small_files: int = 3000
    small_bytes: int = 40_000
    """Mean size of a small file; sizes vary from half of it to one and a half."""
    shards: int = 4
    shard_bytes: int = 32 * 1024 * 1024


def generate(root: Path, shape: Shape = Shape()) -> None:
    """Write ``images/000/00000.bin`` … and ``shards/shard-000.bin`` … below ``root``."""
    # One stretch of random bytes, of which every file is a piece: quick, and no two files are alike.
    chance = random.Random(20)  # noqa: S311  (the same bytes every time is the point)
    stock = chance.randbytes(shape.small_bytes * 3 + shape.small_files)
    for number in range(shape.small_files):
        size = chance.randint(shape.small_bytes // 2, shape.small_bytes * 3 // 2)
        path = root / "images" / f"{number // FILES_PER_FOLDER:03}" / f"{number:05}.bin"
        _write(path, stock[number : number + size])
    for number in range(shape.shards):
        _write(root / "shards" / f"shard-{number:03}.bin", chance.randbytes(shape.shard_bytes))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (CHANGED_AT, CHANGED_AT))
