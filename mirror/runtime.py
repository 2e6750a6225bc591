"""Where running mounts are found: the kernel's own table, and a folder of status sockets.

The kernel knows which mounts exist (file system type ``fuse.mirror``), also those whose keeper has
died; the socket of a mount, named by a digest of its mountpoint, leads to its keeper. Nothing is kept
in files that could be out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import SetupError

FSTYPE = "fuse.mirror"
"""How our mounts are named in the kernel's table."""

_SOCKET_PATH_MAX = 107
"""Bytes in the path of a Unix socket: ``sun_path``, less its end."""

_ESCAPE = re.compile(r"\\([0-7]{3})")
_OWNER = re.compile(r"(?:^|,)user_id=(\d+)(?:,|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of the kernel's table of mounts."""

    path: Path
    source: str
    fstype: str
    device: str
    """``major:minor``, as in ``st_dev`` and below ``/sys/class/bdi``."""
    owner: int | None = None
    """The uid that mounted it, where the file system tells (FUSE does)."""


def _unescape(field: str) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field).encode("latin-1"))


def parse_mountinfo(text: str) -> list[MountPoint]:
    """Read ``/proc/PID/mountinfo`` (as latin-1 text: names are bytes), later mounts last."""
    found = []
    for line in text.splitlines():
        # 36 35 98:0 /root /mountpoint options optional-fields - type source super-options
        before, separator, after = line.partition(" - ")
        front, back = before.split(" "), after.split(" ")
        if separator and len(front) >= 5 and len(back) >= 2:
            owner = _OWNER.search(back[-1])
            found.append(
                MountPoint(
                    Path(_unescape(front[4])),
                    _unescape(back[1]),
                    back[0],
                    front[2],
                    int(owner[1]) if owner else None,
                )
            )
    return found


def all_mounts() -> list[MountPoint]:
    """Every mount of this mount namespace."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="latin-1"))


def mounts() -> list[MountPoint]:
    """Our mounts, those with a dead keeper included."""
    return [mount for mount in all_mounts() if mount.fstype == FSTYPE]


def mount_at(path: str | os.PathLike[str]) -> MountPoint | None:
    """The topmost mount, of whatever type, on exactly this folder; no file system is asked."""
    here = Path(path)
    return next((mount for mount in reversed(all_mounts()) if mount.path == here), None)


@dataclass(frozen=True, slots=True)
class Copy:
    """Where a mount shows as well: a bind mount, or the copy that a new mount namespace begins with."""

    path: Path
    pid: int | None
    """A process of the other mount namespace; None: it is in ours."""

    def __str__(self) -> str:
        """Where, for a message that goes on after 'is mounted'."""
        if self.pid is None:
            return f"on {self.path}"
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{self.pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            return f"in another mount namespace, that of process {self.pid} ({name})"
        return f"in another mount namespace, that of process {self.pid}"


def copy_of(device: str) -> Copy | None:
    """One place where a mount of ours shows, by its device; None where there is none, or none we may see.

    The kernel ends a file system with its last mount, wherever that is: until then its keeper serves it.
    """
    seen = set()
    numbers = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for process in ("self", *sorted(numbers, key=int)):
        try:
            namespace = Path(f"/proc/{process}/ns/mnt").readlink()
            if namespace in seen:
                continue
            table = Path(f"/proc/{process}/mountinfo").read_text(encoding="latin-1")
        except OSError:  # another user's, or it has ended
            continue
        seen.add(namespace)
        for mount in parse_mountinfo(table):
            if mount.device == device and mount.fstype == FSTYPE:
                return Copy(mount.path, None if process == "self" else int(process))
    return None


def folder() -> Path:
    """The folder of status sockets, made when missing.

    ``MIRROR_RUNTIME`` names another one. Raises SetupError when it is not ours alone: whoever may
    write there could answer for our keepers.
    """
    uid = os.geteuid()
    instead = "remove it, or set MIRROR_RUNTIME"
    if override := os.environ.get("MIRROR_RUNTIME"):
        path, instead = Path(override), "set MIRROR_RUNTIME to another"
        if not path.is_absolute():  # a mount does not run in the user's current folder
            raise SetupError(f"MIRROR_RUNTIME={override}: write a whole path, from the / on")
    elif uid == 0:
        path = Path("/run/mirror")
    elif session := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(session) / "mirror"
    else:
        path = Path(f"/tmp/mirror-{uid}")  # noqa: S108 - owner and mode are checked below
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as exc:
        raise SetupError(f"cannot make the folder of status sockets {path}: {exc.strerror}") from exc
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o022:
        raise SetupError(f"{path} must be a folder of this user alone: {instead}")
    return path


def socket_path(mountpoint: str | os.PathLike[str]) -> Path:
    """The status socket of a mountpoint (absolute, symlinks resolved).

    Raises SetupError as `folder`, and when its path would be too long for a socket.
    """
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:32]
    path = folder() / f"{digest}.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        raise SetupError(
            f"the folder of status sockets {path.parent} has too long a path (at most "
            f"{_SOCKET_PATH_MAX - len(path.name) - 1} bytes): set MIRROR_RUNTIME to a shorter one"
        )
    return path
