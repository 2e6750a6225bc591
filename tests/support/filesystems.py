"""File systems that are mounted for a test and gone after it. As root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_tmpfs(place: Path) -> Iterator[Path]:
    """A tmpfs on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "mirror-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def mounted_dead(place: Path) -> Iterator[None]:
    """A file system whose server never answers, as a hard NFS mount of a machine that is off.

    Whoever asks it waits, until this context ends: then they get ENOTCONN.
    """
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
        # -i: without a helper that would want to serve it.
        argv = ["mount", "-i", "-t", "fuse.dead", "-o", options, "mirror-test", str(place)]
        subprocess.run(argv, check=True, pass_fds=[fd])
        try:
            yield
        finally:
            os.close(fd)
            fd = -1
            subprocess.run(["umount", "-l", str(place)], check=True)
    finally:
        if fd >= 0:
            os.close(fd)
