"""Record every open of a file below a folder while a command runs.

    python -m tests.traces.record FOLDER OUT.trace.gz [--about KEY=VALUE]… -- COMMAND…

It is the kernel's own order of the opens of all processes, by inotify: nothing is asked of the command, and
no privilege is needed. Files that are made meanwhile are left out. A record with a gap is no record: when the
kernel's queue overflows, this fails.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.traces.trace import Open, save

IN_OPEN, IN_Q_OVERFLOW, IN_ISDIR = 0x20, 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")
"""struct inotify_event: watch, mask, cookie, length of the name that follows."""
_READ = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Overflow(Exception):
    """Opens came faster than they were read: some are missing."""


class Recorder:
    """The opens of files below a folder, from its making on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watches: dict[int, Path] = {}
        self._sizes: dict[Path, int] = {}
        for path, _, files in os.walk(folder):
            watch = _check(_libc.inotify_add_watch(self._fd, os.fsencode(path), IN_OPEN))
            self._watches[watch] = Path(path)
            self._sizes |= {Path(path, name): Path(path, name).stat().st_size for name in files}

    def read(self, *, wait_seconds: float) -> list[Open]:
        """The opens since the last call; waits for the first.

        Raises:
            Overflow: some are missing.
        """
        if not select.select([self._fd], [], [], wait_seconds)[0]:
            return []
        return list(self._parse(os.read(self._fd, _READ)))

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)

    def _parse(self, data: bytes) -> Iterator[Open]:
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & IN_Q_OVERFLOW:
                raise Overflow("the kernel's queue of opens was full: raise fs.inotify.max_queued_events")
            if not mask & IN_ISDIR and name:
                path = self._watches[watch] / os.fsdecode(name)
                if path in self._sizes:
                    yield Open(str(path.relative_to(self._folder)), self._sizes[path])


@contextmanager
def recorder(folder: Path) -> Iterator[Recorder]:
    """A recorder that is closed in the end."""
    made = Recorder(folder)
    try:
        yield made
    finally:
        made.close()


def record(folder: Path, command: Sequence[str]) -> list[Open]:
    """Run a command, and return the opens below the folder.

    Raises:
        Overflow: some are missing.
        subprocess.CalledProcessError: the command failed.
    """
    opens: list[Open] = []
    with recorder(folder) as running, subprocess.Popen(command) as process:
        while process.poll() is None:
            opens += running.read(wait_seconds=0.1)
        while more := running.read(wait_seconds=0):
            opens += more
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return opens


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main() -> None:
    """Record what the command line says."""
    parser = argparse.ArgumentParser(description="Record the opens of files below a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--about", action="append", default=[], metavar="KEY=VALUE", help="for the head")
    parser.add_argument("command", nargs="+", help="behind --")
    options = parser.parse_args()
    about: Mapping[str, str] = dict(word.split("=", 1) for word in options.about)
    opens = record(options.folder, options.command)
    save(options.out, about, opens)
    print(f"{len(opens)} opens", file=sys.stderr)


if __name__ == "__main__":
    main()
