"""Whether a folder can be a cache, and making it one.

All that would otherwise come up later, as an error in the middle of a read, is found here and said in
one line with the next step. Whoever can write into the folder can change what every reader of it
gets: it belongs to the user who runs this, and nobody else may write into it.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from cache import disks, index, layout, statfs
from cache.errors import CacheUnusable

OBJECTS = layout.OBJECTS
CLAIMS = layout.CLAIMS


def check_folder(path: Path) -> None:
    """Check that ``path`` can be a cache, without a change to it; it need not exist yet.

    Raises:
        CacheUnusable: it cannot; the message names the cause and the next step.
    """
    try:
        _check(path)
    except OSError as exc:
        raise CacheUnusable(f"cache folder {path}: {exc.strerror}: choose another folder") from exc


def make_folder(path: Path) -> None:
    """`check_folder`, and make what is missing of it. Raises as `check_folder` does."""
    check_folder(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = [path / part for part in (OBJECTS, CLAIMS) if not (path / part).is_dir()]
        for part in missing:
            part.mkdir(mode=0o700, exist_ok=True)
        if missing:
            _sync(path)  # whatever is made safe below them would go with their names
        disks.write_in_place(path)  # the index, not the objects, whose folder is there
    except OSError as exc:
        raise CacheUnusable(
            f"cache folder {path} cannot be made: {exc.strerror}: choose another folder"
        ) from exc
    check_folder(path)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check(path: Path) -> None:
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    exists = there == path
    status = there.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnusable(f"{there} is not a folder: choose another cache folder")
    kind = statfs.unfit(statfs.magic(there))
    if kind is not None:
        raise CacheUnusable(
            f"cache folder {path} is on {kind}, which cannot hold a cache: choose a folder on a local disk"
        )
    if exists:
        _check_owner(path, status)
        for part in (path / OBJECTS, path / CLAIMS, path / index.NAME):
            if part.exists():
                _check_owner(part, part.stat())
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise CacheUnusable(f"cache folder {path} is not writable: change its mode or choose another folder")
    # What is cached already is served from a full disk as well, and room is made there by eviction.
    if exists and (path / index.NAME).exists():
        _check_version(path)
        return
    space = os.statvfs(there)
    if space.f_bavail == 0 or (space.f_files and not space.f_ffree):
        raise CacheUnusable(
            f"no space is left for the cache folder {path}: make room or choose another folder"
        )


def _check_version(path: Path) -> None:
    # A damaged one is no reason to refuse: it is made anew when the cache is opened.
    file = path / index.NAME
    index.check_version(index.version_of(file), file)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise CacheUnusable(
            f"{path} belongs to {_user(status.st_uid)}, and this runs as {_user(os.geteuid())}: "
            "choose a cache folder of your own"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheUnusable(
            f"others may write to {path}: run chmod go-w on it, or choose another cache folder"
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
