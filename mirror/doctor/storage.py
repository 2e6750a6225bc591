"""The folder that would hold the cache: its file system, and how deep that is stacked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cache import CacheUnusable, check_folder
from mirror.doctor.finding import Finding, Verdict
from mirror.runtime import MountPoint

STACKED = frozenset({"overlay", "ecryptfs"})
"""File systems on top of another: their files register only at the largest depth, 2."""
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def cache_folder(folder: Path, problem: str | None) -> Finding:
    """Judge what the cache itself says about the folder; None: it may be used."""
    if problem is None:
        return Finding("cache", Verdict.OK, f"{folder} may be used")
    return Finding("cache", Verdict.FAIL, problem, "name another folder with --cache DIR")


def problem_of(folder: Path) -> str | None:
    """Why the folder cannot hold a cache."""
    try:
        check_folder(folder)
    except CacheUnusable as error:
        return str(error)
    return None


def file_system(kind: str | None, *, fit: bool = True) -> Finding:
    """Judge the type of the cache's file system, unless `cache_folder` refused the folder (not ``fit``)."""
    check = "cache file system"
    if not fit:
        return Finding(check, Verdict.OK, f"{kind or 'unknown'}: not judged, as the folder cannot be used")
    if kind is None:
        return Finding(check, Verdict.OK, "unknown: /proc/self/mountinfo does not name it")
    if kind in STACKED:
        return Finding(
            check,
            Verdict.OK,
            f"{kind}: files register at stacking depth 2, so nothing can be stacked over the mount",
            "put the cache on a volume with a file system of its own, where that matters",
        )
    if kind in IN_MEMORY:
        return Finding(check, Verdict.OK, f"{kind}: what is cached takes memory and goes at the next boot")
    return Finding(check, Verdict.OK, kind)


def file_system_of(folder: Path, mounts: Iterable[MountPoint]) -> str | None:
    """The type of the file system at ``folder``, by the kernel's table of mounts, later ones last.

    The deepest mount point above the folder counts, and of several mounts on one point the last.
    """
    above = [mount for mount in mounts if folder.is_relative_to(mount.path)]
    # A stable sort keeps later mounts of one point behind earlier ones.
    above.sort(key=lambda mount: len(mount.path.parts))
    return above[-1].fstype if above else None


def nearest_folder(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists: it will be on the same file system."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
