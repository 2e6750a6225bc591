"""The test stand of the bench: an origin with its data, mounts over it, and the program that reads.

All of it lives in one scratch folder, so that the cache, the origin and the native files are on one
file system. nginx serves on loopback; its files are in the page cache before anything is measured, so
that the origin's disk is no part of any figure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.data import GiB, MiB, noise
from tests.support.mounts import Mount, mounted
from tests.support.servers import Server, nginx

BIG = "big.bin"
SMALL = "small"
KEY_FOLDERS = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int = 7
    cold_rounds: int = 5
    big_bytes: int = GiB
    small_files: int = 2000
    small_bytes: int = 100_000
    random_reads: int = 200_000
    opens: int = 20_000
    listed: int = 100_000
    fills: int = 8
    folders: int = 100
    """Of 10,000 files each, in the large cache."""
    loop_seconds: float = 10.0
    keys: int = 10_000
    """In each of `KEY_FOLDERS` folders of a bucket that is indexed."""


QUICK = Scale(
    rounds=3,
    cold_rounds=1,
    big_bytes=128 * MiB,
    small_files=300,
    random_reads=50_000,
    opens=5_000,
    listed=10_000,
    folders=3,
    loop_seconds=3.0,
    keys=300,
)
"""Enough to see that everything runs; its ratios are a hint."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Everything a row needs."""

    scale: Scale
    folder: Path
    server: Server
    reader: Path

    @property
    def origin(self) -> Path:
        """The folder that nginx serves."""
        return self.server.root

    def small(self, root: Path) -> list[Path]:
        """The small files below ``root`` (the origin, a mount…), in the order of a listing."""
        return [root / SMALL / name for name in small_names(self.scale)]

    def read(self, what: str, path: Path, count: int = 0) -> Timed:
        """Run one loop of the reader."""
        argv = [str(self.reader), what, str(path), str(count)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        nanoseconds, size, operations = map(int, done.stdout.split())
        return Timed(nanoseconds / 1e9, size, operations)

    def read_list(self, what: str, paths: Sequence[Path]) -> Timed:
        """Run one loop of the reader over many files."""
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".list") as file:
            file.write("".join(f"{path}\n" for path in paths))
            file.flush()
            return self.read(what, Path(file.name))

    @contextmanager
    def mount(self, *args: str, cache: Path | None = None) -> Iterator[Mount]:
        """Mount the origin; without a cache given, with an empty one that goes away again."""
        with mounted(self.server.url, cache=cache, args=args) as mount:
            yield mount


@dataclass(frozen=True, slots=True)
class Timed:
    """What one loop took."""

    seconds: float
    size: int
    operations: int

    @property
    def rate(self) -> float:
        """MB/s."""
        return self.size / self.seconds / 1e6

    @property
    def each(self) -> float:
        """Microseconds an operation."""
        return self.seconds / self.operations * 1e6


def wall(action: Sequence[str]) -> float:
    """Seconds that a program takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(action, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def kept(stand: Stand) -> Path:
    """A new folder for small files, which stays until the bench ends.

    ext4 looks long for an inode while many were deleted within the last minutes: whoever makes files
    after a round's were deleted would measure that.
    """
    return Path(tempfile.mkdtemp(prefix="kept-", dir=stand.folder))


def settle() -> None:
    """Let earlier writes reach the disk, so that nobody pays for another's."""
    os.sync()


def small_names(scale: Scale) -> list[str]:
    """The names of the small files."""
    return [f"{number:06d}.bin" for number in range(scale.small_files)]


@contextmanager
def stand(scale: Scale, parent: Path | None = None) -> Iterator[Stand]:
    """Set up the scratch folder, its data, nginx and the reader; all of it goes away again."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-bench-", dir=parent))
    default, tempfile.tempdir = tempfile.tempdir, str(folder)  # mounts and servers make their homes here
    try:
        reader = _compile(folder)
        origin = folder / "origin"
        _fill(origin, scale)
        with nginx(origin, autoindex="json") as server:
            yield Stand(scale, folder, server, reader)
    finally:
        tempfile.tempdir = default
        shutil.rmtree(folder)


def _fill(origin: Path, scale: Scale) -> None:
    (origin / SMALL).mkdir(parents=True)
    block = noise("big", 16 * MiB)
    with (origin / BIG).open("wb") as file:
        for number in range(scale.big_bytes // len(block)):
            file.write(number.to_bytes(8, "little"))  # no two blocks are the same
            file.write(block[8:])
    for number, name in enumerate(small_names(scale)):
        (origin / SMALL / name).write_bytes(number.to_bytes(8, "little") + block[: scale.small_bytes - 8])


def _compile(folder: Path) -> Path:
    reader = folder / "reader"
    source = Path(__file__).with_name("reader.c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-std=gnu11", "-Wall", "-o", str(reader), str(source)], check=True)
    return reader
