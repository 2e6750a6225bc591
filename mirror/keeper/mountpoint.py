"""May a mount go here? Every check of a mountpoint, and of where the cache lies, before anything starts.

The kernel's table of mounts is asked before the folder is: a mount whose keeper has died answers every
call with ENOTCONN, and it is ours to clear away.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from mirror import runtime
from mirror.errors import SetupError, UsageError
from mirror.keeper import privileges

_DEAD_SECONDS = 1.0
"""How long a mount may take to say that its connection is gone; the kernel says so by itself, at once."""
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FUSE_MAGIC = 0x65735546
_OVERLAY_MAGIC = 0x794C7630
_ECRYPTFS_MAGIC = 0xF15F

_libc = ctypes.CDLL(None, use_errno=True)


def check(mountpoint: str, cache: str) -> str | None:
    """Raise UsageError or SetupError when the mount cannot be; else say what was cleared away."""
    where = Path(mountpoint)
    if Path(cache) == where or where in Path(cache).parents:
        raise UsageError(f"the cache {cache} lies inside the mountpoint {mountpoint}: choose another --cache")
    notice = clear_stale(mountpoint)
    if (mount := runtime.mount_at(mountpoint)) is not None and mount.fstype == runtime.FSTYPE:
        raise SetupError(
            f"{mountpoint} is already mounted ({mount.source}): unmount it with 'mirror unmount {mountpoint}'"
        )
    try:
        empty = not any(where.iterdir())
    except FileNotFoundError:
        raise SetupError(f"the mountpoint {mountpoint} does not exist: make it with 'mkdir'") from None
    except NotADirectoryError:
        raise SetupError(f"the mountpoint {mountpoint} is not a folder") from None
    except OSError as exc:
        raise SetupError(f"the mountpoint {mountpoint} cannot be read: {exc.strerror}") from exc
    if not empty:
        raise SetupError(f"the mountpoint {mountpoint} is not empty: mount on an empty folder")
    if filesystem_magic(cache) == _FUSE_MAGIC:
        raise SetupError(f"the cache {cache} is on a FUSE file system: choose a --cache on a local disk")
    return notice


@contextlib.contextmanager
def reserved(mountpoint: str) -> Iterator[None]:
    """Keep every other keeper from mounting here meanwhile: mounts of ours are never stacked.

    Raises SetupError when another one is at it.
    """
    try:
        fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise SetupError(f"the mountpoint {mountpoint} cannot be read: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"{mountpoint} is being mounted by another process already") from None
        yield
    finally:
        os.close(fd)


def clear_stale(mountpoint: str) -> str | None:
    """Detach mounts of ours that nobody serves any more, and say so."""
    notice = None
    while (mount := runtime.mount_at(mountpoint)) is not None and mount.fstype == runtime.FSTYPE:
        if not is_dead(mountpoint):
            break
        detach(mountpoint)
        notice = f"a stale mount left by a crash was detached from {mountpoint}"
    return notice


def is_dead(mountpoint: str) -> bool:
    """Whether the mount's connection is gone; one that does not answer is not dead: its worker may hang."""
    dead: list[bool] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
        except OSError as exc:
            dead.append(exc.errno in (errno.ENOTCONN, errno.ECONNABORTED))

    asker = threading.Thread(target=ask, daemon=True)  # it may never come back
    asker.start()
    asker.join(_DEAD_SECONDS)
    return any(dead)


def detach(mountpoint: str, *, lazy: bool = True) -> None:
    """Unmount; lazily also when it is in use. Raises SetupError, caused by EBUSY when it is busy."""
    if privileges.has_sys_admin():
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if _libc.umount2(os.fsencode(mountpoint), flags) == 0:
            return
        error = ctypes.get_errno()
        if error == errno.EBUSY:
            raise busy(mountpoint) from OSError(error, os.strerror(error))
        raise SetupError(f"cannot unmount {mountpoint}: {os.strerror(error)}") from OSError(error, "umount2")
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise SetupError(f"cannot start fusermount3 ({exc.strerror}): install the package fuse3") from exc
    if result.returncode != 0:
        said = " ".join(result.stderr.split())
        if "busy" in said.lower():
            raise busy(mountpoint) from OSError(errno.EBUSY, said)
        raise SetupError(f"cannot unmount {mountpoint}: {said}")


def busy(mountpoint: str) -> SetupError:
    """What to say of a mount that is in use."""
    return SetupError(
        f"{mountpoint} is busy: see who uses it with 'fuser -vm {mountpoint}', or detach it with --lazy"
    )


def filesystem_magic(path: str) -> int:
    """``f_type`` of statfs(2). Raises SetupError."""
    buffer = (ctypes.c_long * 32)()  # struct statfs has 120 bytes and begins with f_type
    if _libc.statfs(os.fsencode(path), ctypes.byref(buffer)) != 0:
        error = ctypes.get_errno()
        raise SetupError(f"cannot look at the cache {path}: {os.strerror(error)}") from OSError(error, path)
    return int(buffer[0]) & 0xFFFFFFFF


def stack_depth(path: str) -> int:
    """What passthrough needs for backing files here: 1, or 2 on a file system stacked on another.

    2 is the kernel's maximum, and then nothing can be stacked over our mount: so only where needed.
    """
    return 2 if filesystem_magic(path) in (_OVERLAY_MAGIC, _ECRYPTFS_MAGIC) else 1
