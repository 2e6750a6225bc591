"""File systems that are mounted for a test and gone after it, as root; what keeps one waiting, and out."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
"""What makes a file system of a file."""


def mount_image(kind: str, image: Path, size: int, place: Path) -> None:
    """Make a file system of ``size`` bytes in a file, and mount it; the loop device goes with the mount."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*MKFS[kind], image], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)


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


@contextmanager
def held_up(file: Path) -> Iterator[None]:
    """Have whoever opens a file wait until this context ends, as a server does that is slow to answer.

    By a lease, which the kernel takes away after 45 s.
    """
    fd = os.open(file, os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # that somebody waits is no news, and does not end us
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(fd)


class unprivileged:  # noqa: N801 - reads as a statement
    """Threads started inside have no capability to pass over permissions."""

    def __enter__(self) -> None:
        self._effective = os.geteuid()
        if self._effective == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if self._effective == 0:
            os.seteuid(0)
