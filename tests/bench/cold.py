"""Rows about files that are fetched while they are read, against `curl` fetching the same to files.

Both sides begin with nothing: ours with a new mount over an empty cache folder (mounting is not
measured, the first listing is), curl with an empty folder. Both are timed from the start to the end
of one process, the reader or curl, and write to the same file system; what they wrote is flushed, and
large files are deleted, between the measurements. The origin's pages are in memory for both.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.stand import BIG, SMALL, Stand, kept, settle, small_names, wall

SEQUENTIAL = Row("cold_sequential", "cold sequential read", "curl -o", "MB/s", 0.7, 1.2, more_is_better=True)
EPOCH = Row("cold_epoch", "cold epoch over small files", "one curl, one connection", "µs", 3.0, 1.0)

ROWS = (SEQUENTIAL, EPOCH)


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the rows of this module that are wanted."""
    if SEQUENTIAL.key in wanted:
        megabytes = stand.scale.big_bytes / 1e6
        yield _turns(
            stand, SEQUENTIAL, lambda: megabytes / _mount_big(stand), lambda: megabytes / _curl_big(stand)
        )
    if EPOCH.key in wanted:
        each = 1e6 / stand.scale.small_files
        yield _turns(stand, EPOCH, lambda: _mount_small(stand) * each, lambda: _curl_small(stand) * each)


def _turns(stand: Stand, row: Row, ours: Callable[[], float], curl: Callable[[], float]) -> Result:
    curl()  # the origin's pages
    return Result(row, take_turns(stand.scale.cold_rounds, {OURS: ours, REFERENCE: curl}))


def _mount_big(stand: Stand) -> float:
    with stand.mount() as mount:
        settle()
        return wall([str(stand.reader), "seq", str(mount.path / BIG)])


def _mount_small(stand: Stand) -> float:
    with stand.mount(cache=kept(stand)) as mount, tempfile.NamedTemporaryFile("w", suffix=".list") as names:
        names.write("".join(f"{path}\n" for path in stand.small(mount.path)))
        names.flush()
        settle()
        return wall([str(stand.reader), "epoch", names.name])


def _curl_big(stand: Stand) -> float:
    with _empty_folder(stand) as folder:
        return wall(["curl", "-sSf", "-o", str(folder / BIG), stand.server.url + BIG])


def _curl_small(stand: Stand) -> float:
    folder = kept(stand)
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        settle()
        for name in small_names(stand.scale):
            config.write(f'url = "{stand.server.url}{SMALL}/{name}"\noutput = "{folder / name}"\n')
        config.flush()
        return wall(["curl", "-sSf", "-K", config.name])


@contextmanager
def _empty_folder(stand: Stand) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="curl-", dir=stand.folder))
    try:
        settle()
        yield folder
    finally:
        shutil.rmtree(folder)
