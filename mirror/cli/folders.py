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
    """The absolute path without links; what does not exist, or is a dead mount, is taken as written."""
    return Path(os.path.realpath(path))


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


def outside(cache: Path, mountpoint: Path) -> None:
    """Refuse a mountpoint within the cache: the mount would hide a part of it from its own worker.

    The other way round, a cache within the mountpoint, the keeper refuses itself.
    """
    if mountpoint.is_relative_to(cache) and mountpoint != cache:
        raise UsageError(f"the mountpoint {mountpoint} lies inside the cache {cache}: mount somewhere else")


def log_of(cache: Path, mountpoint: Path) -> Path:
    """The log of a mount: ``CACHE/log/mnt-data.1a2b3c4d.log`` for ``/mnt/data``; its folder is made.

    The digest keeps ``/a/b`` and ``/a-b`` apart; the rest is for people. Raises SetupError when the folder
    cannot be made.
    """
    folder = cache / "log"
    try:
        # One after the other: what mkdir makes on the way gets the default mode.
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot make {folder}: {error.strerror}; name a file with --log-file") from error
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", str(mountpoint).strip("/"))[-80:] or "root"
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:8]
    return folder / f"{readable}.{digest}.log"
