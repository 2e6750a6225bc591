"""The mount table, and how a test gets rid of what it finds there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWN = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the mount table."""

    path: Path
    device: str
    """``MAJOR:MINOR``."""
    options: str
    fstype: str
    source: str


def mounts(table: Path = OWN) -> Iterator[Mounted]:
    """All mounts of a mount namespace, in the order they were made."""
    # Names are bytes; the table may hold mounts of others, called whatever.
    for line in table.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, (fstype, source, *_) = before.split(), after.split()
        yield Mounted(Path(_unescape(fields[4])), fields[2], fields[5], fstype, _unescape(source))


def is_mounted(path: Path, table: Path = OWN) -> bool:
    """Whether anything is mounted on exactly this path."""
    return any(mount.path == path for mount in mounts(table))


def detach(path: Path) -> None:
    """Take a mount away whatever its server does: abort the connection, then unmount lazily."""
    for mount in mounts():
        if mount.path == path:
            _abort(mount)
    while is_mounted(path):
        done = subprocess.run(["umount", "-l", str(path)], capture_output=True, text=True, check=False)
        if done.returncode and is_mounted(path):
            raise RuntimeError(f"cannot detach {path}: {done.stderr.strip()}")


def _abort(mount: Mounted) -> None:
    # Frees whoever waits inside the mount: an unmount alone would leave them waiting for ever.
    if not mount.fstype.startswith("fuse"):
        return
    minor = mount.device.partition(":")[2]
    control = Path(f"/sys/fs/fuse/connections/{minor}/abort")
    if control.exists() and os.access(control, os.W_OK):
        control.write_text("1")


def _unescape(field: str) -> str:
    """Undo the table's own escapes: three octal digits for blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
