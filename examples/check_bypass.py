"""Check that warm reads bypass the daemon, for a source of your own.

    python examples/check_bypass.py https://data.example.org/tree/ [--files 100]

Mounts the source on a temporary folder, reads some files until they are complete, reads them again, and
counts the READ requests that reached user space meanwhile. Exit code 0: none did. 1: some did. 3: this
machine cannot do it, and why.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mounting import mounted


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description="Check that warm reads bypass the daemon.")
    parser.add_argument("source")
    parser.add_argument("--files", type=int, default=100, help="how many files to read (default: 100)")
    parser.add_argument("--cache", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirror-check-") as work:
        mountpoint = Path(work, "mnt")
        mountpoint.mkdir()
        try:
            sys.exit(check(options.source, mountpoint, options.cache or Path(work, "cache"), options.files))
        except subprocess.CalledProcessError as error:
            # The command has said on standard error what is wrong.
            sys.exit(error.returncode)


def check(source: str, mountpoint: Path, cache: Path, count: int) -> int:
    """Mount, read twice, judge; returns the exit code."""
    # Every open waits for the whole file: so every file is complete after the first round.
    with mounted(source, mountpoint, cache, "--open", "wait") as status:
        paths = list(itertools.islice(files(mountpoint), count))
        cold = sum(map(read, paths))
        before = status.read_requests()
        warm = sum(map(read, paths))
        requests = status.read_requests() - before
        mode = status()
    if warm != cold:
        print(f"read {cold:,} bytes first and {warm:,} then")
        return 1
    print(f"{len(paths):,} files, {warm:,} bytes: {requests:,} READ requests reached user space")
    if not mode["passthrough"]:
        print(f"passthrough is off here: {mode['passthrough_reason']}")
        return 3
    return 1 if requests else 0


def files(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``, listed as they are asked for."""
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(at, name)


def read(path: Path) -> int:
    """Read a file to its end; its length in bytes."""
    with path.open("rb", buffering=0) as file:
        return sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b""))


if __name__ == "__main__":
    main()
