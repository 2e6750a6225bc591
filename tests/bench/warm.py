"""Rows about files that are complete: reading them should cost what the local disk costs.

Warm means: the file is complete in the cache and its pages are in the page cache, for both sides (one
unmeasured run of each before the first round). The native side of the large file is the very object
that the kernel reads through the mount, opened by its own path; that of the small files are the
origin's own files, which lie on the same file system.

Each row is measured on a third side as well: the same source and cache, mounted without passthrough,
which is what a plain FUSE mount gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import OURS, PLAIN, REFERENCE, Result, Row, take_turns
from tests.bench.stand import BIG, Stand

SEQUENTIAL = Row("warm_sequential", "warm sequential read", "native", "MB/s", 0.9, 1.0, more_is_better=True)
RANDOM = Row("warm_random", "warm random 4 KiB reads", "native", "µs", 1.3, 1.1)
MMAP = Row("warm_mmap", "warm mmap scan", "native", "MB/s", 0.9, 1.0, more_is_better=True)
OPEN = Row("open_close", "open+close of a complete file", "no passthrough", "µs", 0.35, 0.2)
EPOCH = Row("warm_epoch", "epoch over warm small files", "native", "µs", 5.0, 2.5)
FIRST = Row("first_epoch", "the same, first after mounting", "native", "µs")

ROWS = (SEQUENTIAL, RANDOM, MMAP, OPEN, EPOCH, FIRST)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Where each side finds the same bytes."""

    mount: Path
    plain: Path
    native_big: Path


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the rows of this module that are wanted."""
    if not wanted & {row.key for row in ROWS}:
        return
    with _sides(stand) as sides:
        for row in ROWS:
            if row.key in wanted and row is not FIRST:
                yield _MEASURES[row.key](stand, sides)
    if FIRST.key in wanted:
        yield _first_epoch(stand)


@contextmanager
def _sides(stand: Stand) -> Iterator[_Sides]:
    cache = stand.folder / "warm-cache"
    with ExitStack() as stack:
        ours = stack.enter_context(stand.mount(cache=cache))
        ours.mirror("warm", stand.server.url, "--cache", cache, timeout=300.0).ok()
        plain = stack.enter_context(stand.mount("-o", "no_passthrough", cache=cache))
        fd = ours.open_passthrough(BIG)
        try:
            files = ours.status()["backing"]["files"]
            native = next(Path(file["path"]) for file in files if file["open_handles"])
        finally:
            os.close(fd)
        yield _Sides(ours.path, plain.path, native)


def _turns(
    stand: Stand, row: Row, sides: dict[str, Callable[[], float]], notes: dict[str, object] | None = None
) -> Result:
    for side in sides.values():  # warms pages, dentries and everybody's caches
        side()
    return Result(row, take_turns(stand.scale.rounds, sides), notes or {})


def _big(stand: Stand, sides: _Sides, row: Row, one: Callable[[Path], float]) -> Result:
    return _turns(
        stand,
        row,
        {
            OURS: lambda: one(sides.mount / BIG),
            REFERENCE: lambda: one(sides.native_big),
            PLAIN: lambda: one(sides.plain / BIG),
        },
    )


def _sequential(stand: Stand, sides: _Sides) -> Result:
    return _big(stand, sides, SEQUENTIAL, lambda path: stand.read("seq", path).rate)


def _random(stand: Stand, sides: _Sides) -> Result:
    count = stand.scale.random_reads
    return _big(stand, sides, RANDOM, lambda path: stand.read("random", path, count).each)


def _mmap(stand: Stand, sides: _Sides) -> Result:
    return _big(stand, sides, MMAP, lambda path: stand.read("mmap", path).rate)


def _open(stand: Stand, sides: _Sides) -> Result:
    def one(path: Path) -> float:
        return stand.read("open", path, stand.scale.opens).each

    native = one(sides.native_big)
    return _turns(
        stand,
        OPEN,
        {OURS: lambda: one(sides.mount / BIG), REFERENCE: lambda: one(sides.plain / BIG)},
        {"native": native},
    )


def _epoch(stand: Stand, sides: _Sides) -> Result:
    def one(root: Path) -> float:
        return stand.read_list("epoch", stand.small(root)).each

    return _turns(
        stand,
        EPOCH,
        {
            OURS: lambda: one(sides.mount),
            REFERENCE: lambda: one(stand.origin),
            PLAIN: lambda: one(sides.plain),
        },
    )


def _first_epoch(stand: Stand) -> Result:
    """Every round mounts anew over the warm cache: the kernel knows no name and no backing file yet."""
    cache = stand.folder / "warm-cache"

    def one(*args: str) -> float:
        with stand.mount(*args, cache=cache) as mount:
            return stand.read_list("epoch", stand.small(mount.path)).each

    return _turns(
        stand,
        FIRST,
        {
            OURS: one,
            REFERENCE: lambda: stand.read_list("epoch", stand.small(stand.origin)).each,
            PLAIN: lambda: one("-o", "no_passthrough"),
        },
    )


_MEASURES: dict[str, Callable[[Stand, _Sides], Result]] = {
    SEQUENTIAL.key: _sequential,
    RANDOM.key: _random,
    MMAP.key: _mmap,
    OPEN.key: _open,
    EPOCH.key: _epoch,
}
