"""Which folders a command uses: the cache, and the log of a mount in the background."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from mirror.errors import SetupError, UsageError


def default_cache() -> Path:
    """``$MIRROR_CACHE``, else ``/var/cache/mirror`` for root, else ``mirror`` in the XDG cache folder."""
    if chosen := os.environ.get("MIRROR_CACHE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/cache/mirror")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "mirror"


def resolved(path: Path) -> Path:
    """The absolute path without links; what does not exist, or is a dead mount, is taken as written.

    A mount of ours is not asked: its worker may hang. Raises SetupError for a relative path when the
    current folder is gone.
    """
    from mirror import runtime

    try:
        if ".." not in path.parts:
            whole = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps a '.'
            place = Path(os.path.realpath(whole.parent)) / whole.name
            if (mount := runtime.mount_at(place)) is not None and mount.fstype == runtime.FSTYPE:
                return place
        return Path(os.path.realpath(path))
    except FileNotFoundError as error:
        raise SetupError(
            f"the current folder no longer exists, so {path} is nowhere: cd elsewhere"
        ) from error


def absolute(path: Path) -> Path:
    """The absolute path, links kept. Raises SetupError as `resolved`."""
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise SetupError(
            f"the current folder no longer exists, so {path} is nowhere: cd elsewhere"
        ) from error


def usable_cache(path: Path | None) -> Path:
    """Resolve the chosen cache folder (None: the default) and check it, before anything is started.

    Raises SetupError with one line for a folder that cannot hold a cache.
    """
    from cache import CacheUnusable, check_folder

    folder = resolved(default_cache() if path is None else path)
    try:
        check_folder(folder)
    except CacheUnusable as error:
        raise SetupError(str(error)) from error
    return folder


def existing_cache(path: Path | None) -> Path:
    """As `usable_cache`, for commands that only have something to do where there is a cache already."""
    from cache import index

    folder = usable_cache(path)
    if not (folder / index.NAME).exists():
        raise SetupError(f"there is no cache in {folder}: name another by --cache or MIRROR_CACHE")
    return folder


def apart(cache: Path, mountpoint: Path) -> None:
    """Refuse a mount that would hide the cache, or a part of it, from its own worker."""
    if cache.is_relative_to(mountpoint):
        raise UsageError(f"the cache {cache} lies inside the mountpoint {mountpoint}: choose another --cache")
    if mountpoint.is_relative_to(cache):
        raise UsageError(f"the mountpoint {mountpoint} lies inside the cache {cache}: mount somewhere else")


def make(folder: Path) -> None:
    """Make a folder for this user alone, where it is missing. Raises SetupError when it cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot make the folder {folder}: {error.strerror}") from error


def log_of(cache: Path, mountpoint: Path) -> Path:
    """The log of a mount: ``CACHE/log/mnt-data.1a2b3c4d.log`` for ``/mnt/data``.

    The digest keeps ``/a/b`` and ``/a-b`` apart; the rest is for people.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", str(mountpoint).strip("/"))[-80:] or "root"
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:8]
    return cache / "log" / f"{readable}.{digest}.log"
